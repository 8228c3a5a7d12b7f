"""Checkpoints: a network saved with all that is needed to rebuild it, and loaded only if nothing drifted."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import torch
from torch import nn

from simplenet.atomic import PathLike
from simplenet.checkpoint.file import read_checkpoint, write_checkpoint
from simplenet.checkpoint.keys import (
    CLASSES,
    CONTENT_HASH,
    FORMAT_VERSION,
    GOLDEN,
    METADATA,
    MODEL_CONFIG,
    MODEL_STATE_DICT,
    PARENT_HASH,
    PYTORCH_VERSION,
    TIMESTAMP,
)
from simplenet.checkpoint.lineage import origin_of, remember_origin
from simplenet.errors import (
    CheckpointError,
    ConfigError,
    KeyMismatchError,
    NotACheckpointError,
    ShapeMismatchError,
)
from simplenet.integrity import content_hash, make_golden, random_rows, verify_golden, verify_hash
from simplenet.model import ARCHITECTURE, DEFAULT_ARCHITECTURE, SimpleNet, bare_network, build_model, model_config_of

CURRENT_FORMAT = 1


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
        filepath: where to; written whole or not at all.
        metadata: plain values to keep (accuracy, dataset, …); the library's own fields are added, among them the
            content hash of the checkpoint that the network was loaded from, as `parent_hash` unless that is given.
        model_config: the constructor's arguments, where `model.config` does not carry them.
        classes: one label per class, in order.
        golden_inputs: `(samples, input_size)` float, real rows to record; random ones by default.

    Raises:
        CheckpointError: metadata or classes cannot be stored, or the network answers NaN.
        ConfigError: the network carries no model_config and none is given.
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
    if classes is not None and len(classes) != golden["logits"].shape[1]:
        raise CheckpointError(f"classes: expected {golden['logits'].shape[1]} labels, found {len(classes)}")
    state_dict = {name: _compact(tensor) for name, tensor in model.state_dict().items()}
    own_hash, parent_hash = content_hash(state_dict), origin_of(model)
    checkpoint: dict[str, Any] = {
        MODEL_STATE_DICT: state_dict,
        MODEL_CONFIG: plain(config, "model_config"),
        METADATA: {
            **({PARENT_HASH: parent_hash} if parent_hash not in (None, own_hash) else {}),
            **plain(dict(metadata or {}), "metadata"),
            FORMAT_VERSION: CURRENT_FORMAT,
            TIMESTAMP: datetime.now(timezone.utc).isoformat(timespec="seconds"),
            PYTORCH_VERSION: str(torch.__version__),
            CONTENT_HASH: own_hash,
        },
        GOLDEN: golden,
    }
    if classes is not None:
        checkpoint[CLASSES] = [str(label) for label in classes]
    return checkpoint


def _compact(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor on storage of its own size: torch.save writes all that a view looks into, and no more."""
    own = tensor.detach()
    return own if own.untyped_storage().nbytes() == own.nbytes else own.clone(memory_format=torch.contiguous_format)


def load_model_for_inference(filepath: PathLike, device: str | torch.device = "cpu") -> nn.Module:
    """Rebuild a saved network on `device`, in eval mode, its hash and golden samples verified there.

    Raises:
        CheckpointError: one of its kinds, naming what is wrong.
        ConfigError: the stored model_config cannot rebuild the network.
    """
    return restore(read_checkpoint(filepath, device), device, str(filepath))


def restore(
    checkpoint: Mapping[str, Any],
    device: str | torch.device,
    source: str,
    network: Callable[..., nn.Module] | None = None,
) -> nn.Module:
    """Rebuild and verify the network of a loaded checkpoint; `network` is its class where it is not registered."""
    state_dict, config, metadata = verified_parts(checkpoint, source)
    model = unfilled_model(config, network)
    load_weights(model, state_dict, source)
    model.to(device).eval()
    (golden,) = require(checkpoint, source, GOLDEN)
    verify_golden(model, golden, source)
    _check_classes(checkpoint.get(CLASSES), golden["logits"].shape[1], source)
    remember_origin(model, metadata)
    return model


def unfilled_model(config: Mapping[str, Any], network: Callable[..., nn.Module] | None = None) -> nn.Module:
    """Build a network that `load_weights` is going to assign every weight to.

    A SimpleNet takes no memory of its own: neither twice that of its weights, nor what a config of absurd sizes asks.
    Other networks may have tensors that no checkpoint holds.
    """
    named = config.get(ARCHITECTURE, DEFAULT_ARCHITECTURE) if isinstance(config, Mapping) else None
    ours = network is SimpleNet or (network is None and named == DEFAULT_ARCHITECTURE)
    with torch.device("meta" if ours else "cpu"):
        return build_model(config, network)


def verified_parts(checkpoint: Mapping[str, Any], source: str) -> tuple[dict[str, torch.Tensor], Any, dict[str, Any]]:
    """The state_dict, whose hash was verified, the model_config and the metadata of a loaded checkpoint.

    Raises:
        CheckpointError: one is missing, or the weights are not the ones that were saved.
    """
    state_dict, config, metadata = require(checkpoint, source, MODEL_STATE_DICT, MODEL_CONFIG, METADATA)
    if not isinstance(metadata, dict) or not isinstance(metadata.get(CONTENT_HASH), str):
        raise NotACheckpointError(f"{source}: metadata[{CONTENT_HASH!r}]: expected a SHA-256, found none")
    verify_hash(state_dict, metadata[CONTENT_HASH], source)
    return state_dict, config, metadata


def load_weights(model: nn.Module, state_dict: Mapping[str, torch.Tensor], source: str, *, assign: bool = True) -> None:
    """Give the network its weights, all of them and no others.

    Args:
        model: the network, filled in place.
        state_dict: its weights.
        source: what a message calls them.
        assign: make them the network's parameters, in their own dtype and without a copy; otherwise copy them into
            the parameters that are there (which an optimizer may hold).

    Raises:
        KeyMismatchError: names are missing or unexpected.
        ShapeMismatchError: a weight has another shape.
        CheckpointError: a weight is of another kind of number.
    """
    check_weights(model, state_dict, source)
    model.load_state_dict(dict(state_dict), strict=True, assign=assign)


def check_weights(model: nn.Module, state_dict: Mapping[str, torch.Tensor], source: str) -> None:
    """Make sure that `load_weights` will succeed; nothing is changed. Raises what it raises."""
    wanted = model.state_dict()
    missing = [name for name in wanted if name not in state_dict]
    unexpected = [name for name in state_dict if name not in wanted]
    if missing or unexpected:
        raise KeyMismatchError(
            f"{source}: the weights do not fit {type(model).__name__}: "
            f"missing {listed(missing)}; unexpected {listed(unexpected)}"
        )
    for name, tensor in wanted.items():
        found = state_dict[name]
        if tensor.shape != found.shape:
            fitting = fitting_config(state_dict)
            advice = f"; the model_config that fits is {fitting}" if fitting else ""
            raise ShapeMismatchError(
                f"{source}: {name}: expected shape {tuple(tensor.shape)}, found {tuple(found.shape)}{advice}"
            )
        if tensor.dtype != found.dtype and not (tensor.is_floating_point() and found.is_floating_point()):
            raise CheckpointError(f"{source}: {name}: expected {tensor.dtype}, found {found.dtype}")


def fitting_config(state_dict: Mapping[str, torch.Tensor]) -> dict[str, int] | None:
    """The model_config of the SimpleNet that these weights fit, read off their shapes; None if they fit none."""
    if set(state_dict) != {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}:
        return None
    first, second = state_dict["fc1.weight"], state_dict["fc2.weight"]
    if first.ndim != 2 or second.ndim != 2 or second.shape[1] != first.shape[0]:
        return None
    return {"input_size": first.shape[1], "hidden_size": first.shape[0], "num_classes": second.shape[0]}


def require(
    checkpoint: Mapping[str, Any], source: str, *keys: str, saved_with: str = "save_for_inference"
) -> list[Any]:
    """The values of `keys`, which a file from the public function `saved_with` has.

    Raises:
        NotACheckpointError: names the missing ones and those that are there.
    """
    if missing := [key for key in keys if key not in checkpoint]:
        raise NotACheckpointError(
            f"{source}: missing {listed(missing)}; found {listed(sorted(map(str, checkpoint)))}; "
            f"save it with simplenet.{saved_with}"
        )
    return [checkpoint[key] for key in keys]


def _check_classes(classes: Any, expected: int, source: str) -> None:
    if classes is None:
        return
    if not isinstance(classes, list) or not all(isinstance(label, str) for label in classes):
        raise NotACheckpointError(f"{source}: classes: expected a list of labels, found {type(classes).__name__}")
    if len(classes) != expected:
        raise NotACheckpointError(f"{source}: classes: expected {expected} labels, found {len(classes)}")


def plain(value: Any, where: str) -> Any:
    """The value as plain data that loads without pickle: None, bool, int, float, str, lists, tuples and dicts.

    Raises:
        CheckpointError: names the entry that is of another kind.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, str):  # torch.__version__ is of a class of its own
        return str.__str__(value)
    if isinstance(value, Mapping):
        return {plain(key, f"{where} key"): plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a NumPy or torch scalar
        return value.item()
    raise CheckpointError(f"{where}: expected plain data (numbers, text, lists, dicts), found {type(value).__name__}")


def listed(names: Sequence[str]) -> str:
    """Names in a message: quoted, the first eight of them."""
    shown = ", ".join(repr(name) for name in names[:8]) or "none"
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
