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
from simplenet.content_hash import content_hash
from simplenet.errors import CheckpointError, ConfigError
from simplenet.golden import make_golden, random_rows
from simplenet.model import ARCHITECTURE, SimpleNet, bare_network, model_config_of
from simplenet.paths import PathLike


def save_for_inference(
    model: nn.Module,
    filepath: PathLike,
    metadata: Mapping[str, Any] | None = None,
    *,
    model_config: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    golden_inputs: torch.Tensor | None = None,
) -> None:
    """Save a network for serving: weights, model_config, metadata, content hash and golden samples.

    Args:
        model: a SimpleNet, or any network whose constructor takes the fields of its model_config.
        filepath: written whole or not at all.
        metadata: plain values to keep (accuracy, dataset, …). The library adds its own fields, among them
            `parent_hash` unless given: the content hash of the checkpoint that the network was loaded from.
        model_config: the constructor's arguments, if `model.config` does not have them.
        classes: one label per class, in order.
        golden_inputs: `(samples, input_size)` float, real rows to record; random ones by default.

    Raises:
        CheckpointError: metadata or classes cannot be stored, or the network's logits are NaN.
        ConfigError: the network has no model_config and none is given.

    Example:
        >>> model = SimpleNet(input_size=4, hidden_size=8, num_classes=3)
        >>> save_for_inference(model, "model.pt", {"accuracy": 0.97}, classes=["ant", "bee", "cat"])
        >>> from simplenet import load_model_for_inference
        >>> torch.equal(load_model_for_inference("model.pt").fc1.weight, model.fc1.weight)
        True
    """
    write_checkpoint(
        inference_checkpoint(model, metadata, model_config=model_config, classes=classes, golden_inputs=golden_inputs),
        filepath,
    )


def inference_checkpoint(
    model: nn.Module,
    metadata: Mapping[str, Any] | None = None,
    *,
    model_config: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    golden_inputs: torch.Tensor | None = None,
) -> dict[str, Any]:
    """The dict that `save_for_inference` writes; the arguments are the same."""
    model = bare_network(model)
    config = dict(model_config) if model_config is not None else model_config_of(model)
    if type(model) is not SimpleNet:
        config.setdefault(ARCHITECTURE, type(model).__name__)
    if golden_inputs is None:
        if "input_size" not in config:
            raise ConfigError("model_config has no 'input_size' to make golden samples of; pass golden_inputs=")
        golden_inputs = random_rows(config["input_size"])
    golden = make_golden(model, golden_inputs)
    labels = {} if classes is None else {CLASSES: _labels(classes, golden["logits"].shape[1])}
    state_dict = {name: _compact(tensor) for name, tensor in model.state_dict().items()}
    own_hash, parent_hash = content_hash(state_dict), origin_of(model)
    return {
        MODEL_STATE_DICT: state_dict,
        MODEL_CONFIG: plain_data(config, "model_config"),
        METADATA: {
            **({PARENT_HASH: parent_hash} if parent_hash not in (None, own_hash) else {}),
            **plain_data(dict(metadata or {}), "metadata"),
            FORMAT_VERSION: CURRENT_FORMAT,
            TIMESTAMP: datetime.now(timezone.utc).isoformat(timespec="seconds"),
            PYTORCH_VERSION: str(torch.__version__),
            CONTENT_HASH: own_hash,
        },
        GOLDEN: golden,
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
