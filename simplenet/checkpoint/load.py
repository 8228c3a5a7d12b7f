"""Load a network for prediction: rebuild it from its file and verify it.

Which loader to use: `load_model_for_inference` for a file that `save_for_inference` wrote; it verifies everything and
refuses the file otherwise. `smart_load` for the same files and for the plain state_dict of a SimpleNet; it picks the
best device. `safe_load_model` for a class of your own, for a file from elsewhere, or to load only what fits
(`strict=False`). `load_checkpoint_for_training` resumes training, `load_pretrained_backbone` starts a new network from
the layers of another, and `load_from_s3` is `load_model_for_inference` for an object in a bucket.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from simplenet.checkpoint.entries import required_entries
from simplenet.checkpoint.file import read_checkpoint
from simplenet.checkpoint.keys import CLASSES, GOLDEN, MODEL_CONFIG
from simplenet.checkpoint.lineage import remember_origin
from simplenet.checkpoint.rebuild import rebuild, unfilled_model
from simplenet.checkpoint.served import replay
from simplenet.checkpoint.state_dict import load_matching, load_weights
from simplenet.checkpoint.verify import verified_parts
from simplenet.checkpoint.weights import Weights, read_weights
from simplenet.errors import ConfigError, NotACheckpointError
from simplenet.model import build_model
from simplenet.paths import PathLike

logger = logging.getLogger(__name__)


def load_model_for_inference(filepath: PathLike, device: str | torch.device = "cpu") -> nn.Module:
    """Rebuild a saved network on `device`, in eval mode, and verify its hash and golden samples there.

    It takes what it was trained on, `(batch, *input_shape)` after preprocessing, and returns its own outputs;
    `simplenet.preprocessing` makes that of rows: `InputSpec.from_checkpoint(checkpoint, path).prepare(rows)`.

    Raises:
        CheckpointError: one of its subclasses, naming what is wrong.
        ConfigError: the stored model_config cannot rebuild the network.

    Example:
        >>> from simplenet import SimpleNet, save_for_inference
        >>> save_for_inference(SimpleNet(4, 8, 3), "model.pt")
        >>> model = load_model_for_inference("model.pt")
        >>> model(torch.rand(2, 4)).shape
        torch.Size([2, 3])
    """
    return restore(read_checkpoint(filepath, device), device, str(filepath))


def smart_load(filepath: PathLike) -> tuple[nn.Module, torch.device]:
    """Load a network onto the best available device: an NVIDIA GPU, else Apple's, else the CPU.

    Returns:
        The network in eval mode, and its device.

    Raises:
        CheckpointError: one of its subclasses.
        ConfigError: the file has no model_config and the weights fit no SimpleNet.

    Example:
        >>> from simplenet import SimpleNet
        >>> torch.save(SimpleNet(4, 8, 3).state_dict(), "weights.pt")
        >>> model, device = smart_load("weights.pt")
        >>> model.config
        ModelConfig(input_size=4, hidden_size=8, num_classes=3)
    """
    device = best_device()
    weights = read_weights(filepath, device)
    if weights.model_config is None:
        raise ConfigError(f"{filepath}: no model_config, and the weights fit no SimpleNet; use safe_load_model")
    model = rebuild(weights.model_config, weights.state_dict, weights.source)
    remember_origin(model, weights.metadata)
    return model.to(device).eval(), device


def safe_load_model(
    model_class: Callable[..., nn.Module], filepath: PathLike, device: str | torch.device = "cpu", strict: bool = True
) -> nn.Module:
    """Build a `model_class` and load it from any file that holds its weights.

    Args:
        model_class: built with the stored model_config, else with one inferred from the weights' shapes, else with its
            defaults.
        filepath: a checkpoint, a plain state_dict or a .safetensors; names may carry `module.` or `_orig_mod.`.
        device: for the network.
        strict: refuse missing, unexpected and mismatched weights, and keep the stored dtype; otherwise load what fits,
            in the dtype of the class, and log what does not.

    Returns:
        The network on `device`, in eval mode.

    Raises:
        CheckpointError: one of its subclasses, naming what is wrong.
        ConfigError: the stored model_config does not fit the class.

    Example:
        >>> torch.save(nn.DataParallel(nn.Linear(4, 3)).state_dict(), "from-elsewhere.pt")
        >>> safe_load_model(lambda: nn.Linear(4, 3), "from-elsewhere.pt")
        Linear(in_features=4, out_features=3, bias=True)
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
    """Rebuild and verify the network of a loaded checkpoint; `network` is its class, if not registered."""
    state_dict, config, metadata = verified_parts(checkpoint, source)
    model = rebuild(config, state_dict, source, network)
    model.to(device).eval()
    (golden,) = required_entries(checkpoint, source, GOLDEN)
    replay(model, checkpoint, source)
    _check_classes(checkpoint.get(CLASSES), golden["logits"].shape[1], source)
    remember_origin(model, metadata)
    return model


def best_device() -> torch.device:
    """An NVIDIA GPU if there is one, else Apple's, else the CPU."""
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
            if weights.model_config is weights.checkpoint.get(MODEL_CONFIG):  # an inferred one need not fit the class
                raise
    try:
        return model_class()
    except TypeError as error:
        raise ConfigError(f"{weights.source}: no model_config, and the class has no defaults: {error}") from error
