"""Load a network to predict with, rebuilt from what its file says and verified.

Which one to use:

- `load_model_for_inference` for what `save_for_inference` wrote: everything is verified, or it is refused.
- `smart_load` for the same files and for plain state_dicts of a SimpleNet; it picks the best device by itself.
- `safe_load_model` for a class of your own, for a file from elsewhere, or to load what fits (`strict=False`).
- `load_checkpoint_for_training` to resume training; `load_pretrained_backbone` to start a new network from another.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from simplenet.checkpoint.file import read_checkpoint
from simplenet.checkpoint.keys import CLASSES, CONTENT_HASH, GOLDEN, METADATA, MODEL_CONFIG, MODEL_STATE_DICT, require
from simplenet.checkpoint.lineage import remember_origin
from simplenet.checkpoint.state_dict import load_matching, load_weights
from simplenet.checkpoint.weights import Weights, read_weights
from simplenet.errors import ConfigError, NotACheckpointError
from simplenet.integrity import verify_golden, verify_hash
from simplenet.model import ARCHITECTURE, DEFAULT_ARCHITECTURE, SimpleNet, build_model
from simplenet.paths import PathLike

logger = logging.getLogger(__name__)


def load_model_for_inference(filepath: PathLike, device: str | torch.device = "cpu") -> nn.Module:
    """Rebuild a saved network on `device`, in eval mode, its hash and golden samples verified there.

    Raises:
        CheckpointError: one of its kinds, naming what is wrong.
        ConfigError: the stored model_config cannot rebuild the network.
    """
    return restore(read_checkpoint(filepath, device), device, str(filepath))


def smart_load(filepath: PathLike) -> tuple[nn.Module, torch.device]:
    """Load a network onto the best device here: an NVIDIA GPU, else Apple's, else the CPU.

    Returns:
        The network in eval mode, and its device.

    Raises:
        CheckpointError: one of its kinds.
        ConfigError: the file says nothing of its model_config and the weights fit no SimpleNet.
    """
    device = best_device()
    weights = read_weights(filepath, device)
    if weights.model_config is None:
        raise ConfigError(f"{filepath}: no model_config, and the weights fit no SimpleNet; use safe_load_model")
    model = unfilled_model(weights.model_config)
    load_weights(model, weights.state_dict, weights.source)
    remember_origin(model, weights.metadata)
    return model.to(device).eval(), device


def safe_load_model(
    model_class: Callable[..., nn.Module], filepath: PathLike, device: str | torch.device = "cpu", strict: bool = True
) -> nn.Module:
    """Build a `model_class` and load it from any file that holds its weights.

    Args:
        model_class: built with the stored model_config; without one, with what the weights' shapes say, or else with
            its defaults.
        filepath: a checkpoint of ours, a plain state_dict or a .safetensors; names may carry `module.` or `_orig_mod.`.
        device: where the network goes.
        strict: refuse missing, unexpected and misshapen weights, and keep the dtype of the others; otherwise take
            what fits, into the dtype of the class, and log what does not.

    Returns:
        The network on `device`, in eval mode.

    Raises:
        CheckpointError: one of its kinds, naming what is wrong.
        ConfigError: the stored model_config does not fit the class.
    """
    weights = read_weights(filepath, device)
    model = _build(model_class, weights, unfilled_model if strict else build_model)
    if strict:
        load_weights(model, weights.state_dict, weights.source)
        remember_origin(model, weights.metadata)
    else:
        report = load_matching(model, weights.state_dict, weights.source)
        if report.missing or report.unexpected or report.mismatched:
            logger.warning("%s: %s", weights.source, report)
        if report.loaded:
            remember_origin(model, weights.metadata)
    return model.to(device).eval()


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


def unfilled_model(config: Mapping[str, Any], network: Callable[..., nn.Module] | None = None) -> nn.Module:
    """Build a network that `load_weights` is going to assign every weight to.

    A SimpleNet takes no memory of its own: neither twice that of its weights, nor what a config of absurd sizes asks.
    Other networks may have tensors that no checkpoint holds.
    """
    named = config.get(ARCHITECTURE, DEFAULT_ARCHITECTURE) if isinstance(config, Mapping) else None
    ours = network is SimpleNet or (network is None and named == DEFAULT_ARCHITECTURE)
    with torch.device("meta" if ours else "cpu"):
        return build_model(config, network)


def best_device() -> torch.device:
    """An NVIDIA GPU where there is one, else Apple's, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _check_classes(classes: Any, expected: int, source: str) -> None:
    if classes is None:
        return
    if not isinstance(classes, list) or not all(isinstance(label, str) for label in classes):
        raise NotACheckpointError(f"{source}: classes: expected a list of labels, found {type(classes).__name__}")
    if len(classes) != expected:
        raise NotACheckpointError(f"{source}: classes: expected {expected} labels, found {len(classes)}")


def _build(model_class: Callable[..., nn.Module], weights: Weights, build: Callable[..., nn.Module]) -> nn.Module:
    if weights.model_config is not None:
        try:
            return build(weights.model_config, model_class)
        except ConfigError:
            if weights.model_config is weights.checkpoint.get(MODEL_CONFIG):  # what was inferred need not fit the class
                raise
    try:
        return model_class()
    except TypeError as error:
        raise ConfigError(f"{weights.source}: no model_config, and the class has no defaults: {error}") from error
