"""Load a network for prediction: rebuild it from its file and verify it.

Which loader to use: `load_model_for_inference` for any file with the weights of a SimpleNet; a file that
`save_for_inference` wrote is verified, any other is adopted. `smart_load` does the same and picks the best device.
`safe_load_model` for a class of your own, or to load only what fits (`strict=False`). `load_checkpoint_for_training`
resumes training, `load_pretrained_backbone` starts a new network from the layers of another, and `load_from_s3` is
`load_model_for_inference` for an object in a bucket.
"""

import logging
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from simplenet.checkpoint.adopt import NOTHING_GIVEN, Adopted, Given, adopt
from simplenet.checkpoint.entries import required_entries
from simplenet.checkpoint.file import read_contents
from simplenet.checkpoint.keys import CLASSES, GOLDEN, MODEL_CONFIG
from simplenet.checkpoint.lineage import remember_origin
from simplenet.checkpoint.rebuild import rebuild, unfilled_model
from simplenet.checkpoint.served import replay, restated
from simplenet.checkpoint.state_dict import LoadReport, load_matching, load_weights
from simplenet.checkpoint.verify import verified_parts
from simplenet.checkpoint.weights import Weights, is_whole, weights_in
from simplenet.errors import ConfigError, KeyMismatchError, NotACheckpointError
from simplenet.model import build_model
from simplenet.paths import PathLike
from simplenet.text import quoted

logger = logging.getLogger(__name__)


def load_model_for_inference(
    filepath: PathLike,
    device: str | torch.device = "cpu",
    *,
    key: str | None = None,
    model_config: Mapping[str, Any] | None = None,
    strict: bool = False,
) -> nn.Module:
    """Rebuild the network in a file on `device`, in eval mode.

    A file that was saved whole is verified there by its hash and golden samples. Of any other file the weights are
    found and adopted, and each thing that was missing or unusual is logged as a warning in one line.

    Args:
        filepath: any file that holds the weights of a SimpleNet or of a registered network.
        device: for the network.
        key: the dotted path of the weights in the file, if several would fit.
        model_config: of the network, instead of what the file says.
        strict: refuse a file that was not saved whole.

    It takes what it was trained on, `(batch, *input_shape)` after preprocessing, and returns its own outputs;
    `simplenet.preprocessing` makes that of rows: `InputSpec.from_checkpoint(checkpoint, path).prepare(rows)`.

    Raises:
        CheckpointError: one of its subclasses, naming what is wrong.
        ConfigError: the model_config cannot rebuild the network.

    Example:
        >>> from simplenet import SimpleNet, save_for_inference
        >>> save_for_inference(SimpleNet(4, 8, 3), "model.pt")
        >>> model = load_model_for_inference("model.pt")
        >>> model(torch.rand(2, 4)).shape
        torch.Size([2, 3])
    """
    given = Given(key=key, model_config=model_config, strict=strict)
    return _logged(load_any(filepath, device, given), filepath).model


def smart_load(filepath: PathLike) -> tuple[nn.Module, torch.device]:
    """Load a network onto the best available device: an NVIDIA GPU, else Apple's, else the CPU.

    Returns:
        The network in eval mode, as from `load_model_for_inference`, and its device.

    Raises:
        CheckpointError: one of its subclasses.
        ConfigError: the stored model_config cannot rebuild the network.

    Example:
        >>> from simplenet import SimpleNet
        >>> torch.save(SimpleNet(4, 8, 3).state_dict(), "weights.pt")
        >>> model, device = smart_load("weights.pt")
        >>> model.config
        ModelConfig(input_size=4, hidden_size=8, num_classes=3)
    """
    device = best_device()
    return load_model_for_inference(filepath, device), device


def load_any(filepath: PathLike, device: str | torch.device = "cpu", given: Given = NOTHING_GIVEN) -> Adopted:
    """Load what any file holds: verified if it was saved whole, adopted if not.

    Raises:
        CheckpointError: one of its subclasses, naming what is wrong.
        ConfigError: the model_config cannot rebuild the network.
    """
    source, contents = str(filepath), read_contents(filepath, device)
    if not is_whole(contents) or given.restates_weights(contents[MODEL_CONFIG]):
        return adopt(contents, source, given)
    model = restore(contents, device, source, given.network)
    if not given.restates_input:
        return Adopted(model, lambda: (contents, ()))
    checkpoint, changes = restated(contents, model, source, **given.input)
    return Adopted(model, lambda: (checkpoint, tuple(changes)))


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
    contents = read_contents(filepath, device)
    source = str(filepath)
    weights = weights_in(contents, source)
    model = _build(model_class, weights, unfilled_model if strict else build_model)
    with suppress(KeyMismatchError):  # some of the weights may fit; if all must, the message names those that do not
        name = type(model).__name__
        weights = weights_in(contents, source, wanted=model.state_dict(), network=name, verified=True)
    if strict:
        load_weights(model, weights.state_dict, source)
    else:
        _warn_of_random(load_matching(model, weights.state_dict, source), model, source)
    remember_origin(model, weights.metadata)
    return model.to(device).eval()


def _warn_of_random(report: LoadReport, model: nn.Module, source: str) -> None:
    """Say what of a network is random after a lenient load.

    Raises:
        KeyMismatchError: all of it.
    """
    if not report.loaded:
        raise KeyMismatchError(f"{source}: nothing matches {type(model).__name__}: {report}")
    if random := [*report.missing, *report.mismatched]:
        warnings.warn(f"{source}: {quoted(random)} not loaded: their values are random; {report}", stacklevel=3)
    elif report.unexpected:
        logger.warning("%s: %s", source, report)


def _logged(adopted: Adopted, filepath: PathLike) -> Adopted:
    for finding in adopted.findings:
        logger.warning("%s: %s", filepath, finding)
    return adopted


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
    """The network of the stored model_config, else of the one that the shapes show, else of the class's defaults."""
    errors: list[Exception] = []
    for config in (weights.stored_config, weights.shaped_config):
        if config is not None:
            try:
                return build(config, model_class)
            except ConfigError as error:
                errors.append(error)
    try:
        return model_class()
    except TypeError as error:
        reason = errors[0] if errors else f"no model_config, and the class has no defaults: {error}"
        raise ConfigError(f"{weights.source}: {reason}") from error
