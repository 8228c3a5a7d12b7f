"""Turn an incomplete file into a complete checkpoint, or convert it; the input file is never changed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simplenet.checkpoint.adopt import REPAIRS, Given, adopt
from simplenet.checkpoint.entries import is_plain
from simplenet.checkpoint.file import read_contents, write_checkpoint
from simplenet.checkpoint.keys import (
    EPOCH,
    LOSS,
    METADATA,
    OPTIMIZER_STATE_DICT,
    RNG_STATE,
    SCALER_STATE_DICT,
    SCHEDULER_STATE_DICT,
)
from simplenet.checkpoint.safetensors_file import SUFFIX
from simplenet.errors import CheckpointError
from simplenet.paths import PathLike

_TRAINING_STATE = (OPTIMIZER_STATE_DICT, SCHEDULER_STATE_DICT, SCALER_STATE_DICT, EPOCH, LOSS, RNG_STATE)


def repair(source: PathLike, target: PathLike, model_config: Mapping[str, Any] | None = None) -> list[str]:
    """Write `source` as a complete checkpoint, adopted if it was not saved whole.

    Args:
        source: any file that `load_model_for_inference` reads. Its hash and golden samples, if any, must match: damaged
            weights cannot be repaired, only restored.
        target: another file; its suffix selects the format: `.safetensors`, or torch.save's.
        model_config: of the network, instead of what the file says.

    Returns:
        What was done, one line each; the metadata lists it too, as `repairs`.

    Raises:
        CheckpointError: the file cannot be read or repaired.
        ConfigError: the model_config does not build the network.

    Example:
        >>> import torch
        >>> from simplenet import SimpleNet
        >>> torch.save(SimpleNet(4, 8, 3).state_dict(), "weights.pt")
        >>> for line in repair("weights.pt", "whole.safetensors"):
        ...     print(line)
        no model_config in weights.pt: {'input_size': 4, 'hidden_size': 8, 'num_classes': 3} from the shapes
        no content hash in weights.pt: one was made now
        no golden samples in weights.pt: 8 random rows and their logits were recorded now
        converted .pt to .safetensors
    """
    return write_adopted(source, target, Given(model_config=model_config))


def write_adopted(source: PathLike, target: PathLike, given: Given) -> list[str]:
    """`repair` with everything that a user may say of the file."""
    origin, goal = Path(source), Path(target)
    if goal.exists() and goal.samefile(origin):
        raise CheckpointError(f"{target}: expected another file than the input, found the same")
    contents = read_contents(origin)
    adopted = adopt(contents, str(source), given)
    stored = contents if isinstance(contents, dict) else {}
    state = {key: stored[key] for key in _TRAINING_STATE if key in stored}
    kept, lines = _keepable(state, goal), list(adopted.notes)
    if origin.suffix != goal.suffix:
        lines.append(f"converted {origin.suffix or 'a file'} to {goal.suffix}")
    if lost := [key for key in state if key not in kept]:
        lines.append(f"left out what only resuming needs: {', '.join(lost)}")
    metadata = {**adopted.checkpoint[METADATA]}
    metadata[REPAIRS] = [*metadata.get(REPAIRS, []), *lines[len(adopted.notes) :]]
    write_checkpoint({**kept, **adopted.checkpoint, METADATA: metadata}, goal)
    return lines


def _keepable(state: Mapping[str, Any], target: Path) -> dict[str, Any]:
    """The training state that the target keeps: none in a .safetensors file, and only plain data and tensors."""
    if target.suffix == SUFFIX:
        return {}
    return {key: value for key, value in state.items() if is_plain(value)}
