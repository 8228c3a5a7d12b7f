"""Save a network for serving, with everything needed to rebuild it."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import torch
from torch import nn

from simplenet.checkpoint.entries import plain_data
from simplenet.checkpoint.file import write_checkpoint
from simplenet.checkpoint.keys import (
    CLASSES,
    CONTENT_HASH,
    CURRENT_FORMAT,
    FORMAT_VERSION,
    GOLDEN,
    METADATA,
    MODEL_CONFIG,
    MODEL_STATE_DICT,
    PARENT_HASH,
    PYTORCH_VERSION,
    TIMESTAMP,
)
from simplenet.checkpoint.lineage import origin_of
from simplenet.checkpoint.loadable import require_loadable, require_same_outputs
from simplenet.checkpoint.served import served_entries, with_served_hash
from simplenet.content_hash import content_hash
from simplenet.errors import CheckpointError, ConfigError
from simplenet.golden import random_rows
from simplenet.model import ARCHITECTURE, SimpleNet, bare_network, model_config_of
from simplenet.paths import PathLike
from simplenet.preprocessing import InputSpec


def save_for_inference(
    model: nn.Module,
    filepath: PathLike,
    metadata: Mapping[str, Any] | None = None,
    *,
    model_config: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    golden_inputs: torch.Tensor | None = None,
    input_shape: Sequence[int] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    output: str | None = None,
) -> None:
    """Save a network for serving: weights, model_config, metadata, content hash and golden samples.

    Args:
        model: a SimpleNet, or any network whose constructor takes the fields of its model_config.
        filepath: written whole or not at all.
        metadata: plain values to keep (accuracy, dataset, …). The library adds its own fields, among them
            `parent_hash` unless given: the content hash of the checkpoint that the network was loaded from.
        model_config: the constructor's arguments, if `model.config` does not have them.
        classes: one label per class, in order.
        golden_inputs: `(samples, input_size)` float, real rows to record, before preprocessing; random ones by default.
        input_shape: of one row before the network, such as (1, 28, 28); flat rows by default.
        preprocessing: `{"scale": 255, "mean": [0.1307], "std": [0.3081]}`, or some of these: `x * scale`, then
            `(x - mean) / std` for all numbers or for each channel, as in training. The server does it; clients do not.
        output: what the network returns: `logits`, `log_probabilities` or `probabilities`. By default what the golden
            outputs plainly are.

    Raises:
        CheckpointError: metadata or classes cannot be stored, the network could not be loaded back or cannot predict
            such rows, its logits are NaN, or they cannot be what `output` says.
        ConfigError: the network has no model_config and none is given, or an input_shape, preprocessing or output is
            impossible.

    Example:
        >>> model = SimpleNet(input_size=4, hidden_size=8, num_classes=3)
        >>> save_for_inference(model, "model.pt", {"accuracy": 0.97}, classes=["ant", "bee", "cat"])
        >>> from simplenet import load_model_for_inference
        >>> torch.equal(load_model_for_inference("model.pt").fc1.weight, model.fc1.weight)
        True
    """
    write_checkpoint(
        inference_checkpoint(
            model,
            metadata,
            model_config=model_config,
            classes=classes,
            golden_inputs=golden_inputs,
            input_shape=input_shape,
            preprocessing=preprocessing,
            output=output,
        ),
        filepath,
    )


def inference_checkpoint(
    model: nn.Module,
    metadata: Mapping[str, Any] | None = None,
    *,
    model_config: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    golden_inputs: torch.Tensor | None = None,
    input_shape: Sequence[int] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    output: str | None = None,
) -> dict[str, Any]:
    """The dict that `save_for_inference` writes; the arguments are the same."""
    model = bare_network(model)
    config = dict(model_config) if model_config is not None else model_config_of(model)
    if type(model) is not SimpleNet:
        config.setdefault(ARCHITECTURE, type(model).__name__)
    spec = InputSpec.of(input_shape, preprocessing)
    if golden_inputs is None:
        size = spec.size or config.get("input_size")
        if size is None:
            raise ConfigError(
                "model_config has no 'input_size' to make golden samples of; pass golden_inputs= or input_shape="
            )
        golden_inputs = random_rows(size)
    require_loadable(model, config)
    served = served_entries(model, golden_inputs, spec, output)
    golden = served[GOLDEN]
    require_same_outputs(model, config, golden, spec)
    labels = {} if classes is None else {CLASSES: _labels(classes, golden["logits"].shape[1])}
    state_dict = {name: _compact(tensor) for name, tensor in model.state_dict().items()}
    own_hash, parent_hash = content_hash(state_dict), origin_of(model)
    return {
        MODEL_STATE_DICT: state_dict,
        MODEL_CONFIG: plain_data(config, "model_config"),
        METADATA: {
            **({PARENT_HASH: parent_hash} if parent_hash not in (None, own_hash) else {}),
            **with_served_hash(plain_data(dict(metadata or {}), "metadata"), served),
            FORMAT_VERSION: CURRENT_FORMAT,
            TIMESTAMP: datetime.now(timezone.utc).isoformat(timespec="seconds"),
            PYTORCH_VERSION: str(torch.__version__),
            CONTENT_HASH: own_hash,
        },
        **served,
        **labels,
    }


def _labels(classes: Sequence[str], expected: int) -> list[str]:
    if not isinstance(classes, Sequence):
        raise CheckpointError(f"classes: expected a list of labels, found {type(classes).__name__}")
    if len(classes) != expected:
        raise CheckpointError(f"classes: expected {expected} labels, found {len(classes)}")
    return [str(label) for label in classes]


def _compact(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor on storage of its own size: for a view, torch.save would write all of the viewed storage."""
    own = tensor.detach()
    return own if own.untyped_storage().nbytes() == own.nbytes else own.clone(memory_format=torch.contiguous_format)
