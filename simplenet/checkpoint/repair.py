"""Turn an incomplete file into a complete checkpoint, or convert it; the input file is never changed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simplenet.checkpoint.file import write_checkpoint
from simplenet.checkpoint.keys import (
    CLASSES,
    CONTENT_HASH,
    EPOCH,
    GOLDEN,
    INPUT_SHAPE,
    LOSS,
    MODEL_CONFIG,
    OPTIMIZER_STATE_DICT,
    OUTPUT,
    PREPROCESSING,
    RNG_STATE,
    SCALER_STATE_DICT,
    SCHEDULER_STATE_DICT,
)
from simplenet.checkpoint.rebuild import rebuild
from simplenet.checkpoint.safetensors_file import SUFFIX
from simplenet.checkpoint.save import inference_checkpoint
from simplenet.checkpoint.served import replay
from simplenet.checkpoint.weights import Weights, read_weights
from simplenet.errors import CheckpointError, ConfigError
from simplenet.paths import PathLike

REPAIRS = "repairs"  # the key of the metadata that lists the repairs
_TRAINING_STATE = (OPTIMIZER_STATE_DICT, SCHEDULER_STATE_DICT, SCALER_STATE_DICT, EPOCH, LOSS, RNG_STATE)


def repair(source: PathLike, target: PathLike, model_config: Mapping[str, Any] | None = None) -> list[str]:
    """Write `source` as a complete checkpoint: bare names, model_config, content hash, golden samples.

    Args:
        source: any file that `safe_load_model` reads. Its hash and golden samples, if any, must match: damaged weights
            cannot be repaired, only restored.
        target: another file; its suffix selects the format: `.safetensors`, or torch.save's.
        model_config: of the network, if the file has none and its weights fit no SimpleNet.

    Returns:
        The repairs, one line each; they are also in the metadata.

    Raises:
        CheckpointError: the file cannot be read or repaired.
        ConfigError: it has no model_config and none can be inferred.

    Example:
        >>> import torch
        >>> from simplenet import SimpleNet
        >>> torch.save(SimpleNet(4, 8, 3).state_dict(), "weights.pt")
        >>> for line in repair("weights.pt", "whole.safetensors"):
        ...     print(line)
        added the model_config {'input_size': 4, 'hidden_size': 8, 'num_classes': 3}
        added the content hash
        added golden samples of random rows
        converted .pt to .safetensors
    """
    if Path(target).exists() and Path(target).samefile(source):
        raise CheckpointError(f"{target}: expected another file than the input, found the same")
    weights = read_weights(source)
    config = weights.model_config or model_config
    if config is None:
        raise ConfigError(f"{source}: no model_config, and the weights fit no SimpleNet; name it with --model-config")
    model = rebuild(config, weights.state_dict, weights.source)
    contents = weights.checkpoint
    golden = contents.get(GOLDEN)
    if golden is not None:
        replay(model, contents, weights.source)
    kept = _training_state(weights, Path(target))
    repairs = _repairs(weights, config, kept, Path(source), Path(target))
    earlier = weights.metadata.get(REPAIRS)
    metadata = {**weights.metadata, REPAIRS: [*(earlier if isinstance(earlier, list) else []), *repairs]}
    complete = inference_checkpoint(
        model,
        metadata,
        model_config=config,
        classes=contents.get(CLASSES),
        golden_inputs=golden["inputs"] if golden is not None else None,
        input_shape=contents.get(INPUT_SHAPE),
        preprocessing=contents.get(PREPROCESSING),
        output=contents.get(OUTPUT),
    )
    write_checkpoint({**kept, **complete}, target)
    return repairs


def _training_state(weights: Weights, target: Path) -> dict[str, Any]:
    """The training state that the target keeps: none in a .safetensors file, which holds only tensors."""
    if target.suffix == SUFFIX:
        return {}
    return {key: weights.checkpoint[key] for key in _TRAINING_STATE if key in weights.checkpoint}


def _repairs(
    weights: Weights, config: Mapping[str, Any], kept: Mapping[str, Any], source: Path, target: Path
) -> list[str]:
    repairs = []
    if weights.stored_name:
        repairs.append(f"named {next(iter(weights.state_dict))!r} what was {weights.stored_name!r}, and so on")
    if MODEL_CONFIG not in weights.checkpoint:
        repairs.append(f"added the model_config {dict(config)}")
    if CONTENT_HASH not in weights.metadata:
        repairs.append("added the content hash")
    elif weights.stored_name:
        repairs.append("recomputed the content hash over the new names")
    if GOLDEN not in weights.checkpoint:
        repairs.append("added golden samples of random rows")
    if source.suffix != target.suffix:
        repairs.append(f"converted {source.suffix or 'a file'} to {target.suffix}")
    lost = [key for key in _TRAINING_STATE if key in weights.checkpoint and key not in kept]
    if lost:
        repairs.append(f"left out what only resuming needs: {', '.join(lost)}")
    return repairs
