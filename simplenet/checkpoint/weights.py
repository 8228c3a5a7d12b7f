"""Weights from whatever file holds them: any checkpoint, a plain state_dict, wrapped names, no model_config."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from simplenet.atomic import PathLike
from simplenet.checkpoint.file import read_checkpoint
from simplenet.checkpoint.inference import (
    check_weights,
    fitting_config,
    listed,
    load_weights,
    unfilled_model,
)
from simplenet.checkpoint.keys import CONTENT_HASH, GOLDEN, METADATA, MODEL_CONFIG, MODEL_STATE_DICT
from simplenet.checkpoint.lineage import remember_origin
from simplenet.errors import ConfigError, KeyMismatchError, NotACheckpointError
from simplenet.integrity import verify_hash
from simplenet.model import bare_network, build_model

logger = logging.getLogger(__name__)

_WRAPPED = (MODEL_STATE_DICT, "state_dict", "model")  # where checkpoints keep their state_dict
_COMPILED, _PARALLEL = "_orig_mod", "module"  # what torch.compile and DistributedDataParallel put into names


@dataclass(frozen=True)
class Weights:
    """What a file holds, its names made those of the bare network."""

    source: str
    state_dict: dict[str, torch.Tensor]
    model_config: dict[str, Any] | None  # stored, or else inferred from the shapes
    checkpoint: dict[str, Any]  # all that was in the file, as it was
    wrapped: str | None  # the file's own name of the first weight, where it is another
    findings: tuple[str, ...]  # what is missing or unusual, each in one line

    @property
    def metadata(self) -> dict[str, Any]:
        """The stored metadata, or none."""
        metadata = self.checkpoint.get(METADATA)
        return metadata if isinstance(metadata, dict) else {}


@dataclass(frozen=True)
class Taken:
    """What a lenient load took and what it left."""

    taken: tuple[str, ...]  # in the file and the network, of one shape
    missing: tuple[str, ...]  # the network's, not in the file: left as they were
    unexpected: tuple[str, ...]  # the file's, not in the network
    mismatched: tuple[str, ...]  # in both, of different shapes: left as they were

    def __str__(self) -> str:
        return (
            f"took {listed(self.taken)}; missing {listed(self.missing)}; unexpected {listed(self.unexpected)}; "
            f"of another shape {listed(self.mismatched)}"
        )


def read_weights(path: PathLike, device: str | torch.device = "cpu", *, mapped: bool = False) -> Weights:
    """Read the weights of any file that holds some, and note what is missing or unusual; `mapped` as for
    `read_checkpoint`.

    Raises:
        CheckpointError: the file cannot be read, holds no weights, or they do not match the hash it carries.
    """
    return weights_in(read_checkpoint(path, device, mapped=mapped), str(path))


def weights_in(checkpoint: dict[str, Any], source: str) -> Weights:
    """`read_weights` of a file that was read already."""
    stored = find_state_dict(checkpoint, source)
    findings = []
    metadata = checkpoint.get(METADATA)
    stored_hash = metadata.get(CONTENT_HASH) if isinstance(metadata, Mapping) else None
    if isinstance(stored_hash, str):
        verify_hash(stored, stored_hash, source)
    else:
        findings.append("no content hash: whether the weights are whole cannot be known")
    state_dict = unwrapped(stored, source)
    wrapped = next(iter(stored)) if list(state_dict) != list(stored) else None
    if wrapped:
        findings.append(f"names are wrapped: {wrapped!r} stands for {next(iter(state_dict))!r}")
    config = checkpoint.get(MODEL_CONFIG)
    if not isinstance(config, dict):
        config = fitting_config(state_dict)
        inferred = f"the weights fit {config}" if config else "and the weights fit no SimpleNet"
        findings.append(f"no model_config: {inferred}")
    if GOLDEN not in checkpoint:
        findings.append("no golden samples: whether the code still agrees cannot be known")
    return Weights(source, state_dict, config, checkpoint, wrapped, tuple(findings))


def unwrapped(state_dict: Mapping[str, torch.Tensor], source: str) -> dict[str, torch.Tensor]:
    """The weights under the bare network's names, without what torch.compile and DistributedDataParallel add.

    Raises:
        KeyMismatchError: two names become one.
    """
    names = {name: [part for part in name.split(".") if part != _COMPILED] for name in state_dict}
    while names and all(len(parts) > 1 and parts[0] == _PARALLEL for parts in names.values()):
        names = {name: parts[1:] for name, parts in names.items()}
    bare = {".".join(parts): state_dict[name] for name, parts in names.items()}
    if len(bare) != len(state_dict):
        raise KeyMismatchError(
            f"{source}: two weights have one name once {_COMPILED!r} and {_PARALLEL!r} are taken off"
        )
    return bare


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
        taken = take_matching(model, weights.state_dict, weights.source)
        if taken.missing or taken.unexpected or taken.mismatched:
            logger.warning("%s: %s", weights.source, taken)
        if taken.taken:
            remember_origin(model, weights.metadata)
    return model.to(device).eval()


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


def load_pretrained_backbone(model: nn.Module, pretrained_path: PathLike, freeze: bool = True) -> nn.Module:
    """Start a network from another's backbone: `transfer_backbone`, its report logged.

    Returns:
        The same network.
    """
    logger.info("%s: %s", pretrained_path, transfer_backbone(model, pretrained_path, freeze))
    return model


def transfer_backbone(model: nn.Module, pretrained_path: PathLike, freeze: bool = True) -> Taken:
    """Take every weight that matches in name and shape, but for the classifier head, which stays new.

    Args:
        model: filled in place; its head (`fc2` of a SimpleNet, else the last layer with weights) may have another size.
        pretrained_path: any file that `safe_load_model` reads.
        freeze: set `requires_grad` to False for what was taken, and for nothing else.

    Returns:
        What was taken and what was left.

    Raises:
        CheckpointError: the file cannot be read, or nothing in it matches the network.
        ConfigError: the network has no layers.
    """
    weights = read_weights(pretrained_path)
    model = bare_network(model)
    head = f"{head_name(model)}."
    backbone = {name: tensor for name, tensor in weights.state_dict.items() if not name.startswith(head)}
    taken = take_matching(model, backbone, weights.source)
    if not taken.taken:
        raise KeyMismatchError(f"{pretrained_path}: nothing matches {type(model).__name__}'s backbone: {taken}")
    remember_origin(model, weights.metadata)
    if freeze:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and name not in taken.taken)
    return taken


def head_name(model: nn.Module) -> str:
    """The name of the classifier head: the last child that has weights.

    Raises:
        ConfigError: there is none.
    """
    names = [name for name, child in model.named_children() if next(child.parameters(), None) is not None]
    if not names:
        raise ConfigError(f"{type(model).__name__}: expected layers, the last of them the classifier head, found none")
    return names[-1]


def take_matching(model: nn.Module, state_dict: Mapping[str, torch.Tensor], source: str) -> Taken:
    """Copy the weights that the network has under the same name in the same shape; say what was left."""
    wanted = model.state_dict()
    matching = {n: t for n, t in state_dict.items() if n in wanted and wanted[n].shape == t.shape}
    check_weights(model, {**wanted, **matching}, source)
    model.load_state_dict(matching, strict=False)
    return Taken(
        taken=tuple(matching),
        missing=tuple(name for name in wanted if name not in state_dict),
        unexpected=tuple(name for name in state_dict if name not in wanted),
        mismatched=tuple(name for name in state_dict if name in wanted and name not in matching),
    )


def best_device() -> torch.device:
    """An NVIDIA GPU where there is one, else Apple's, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def find_state_dict(checkpoint: Mapping[str, Any], source: str) -> dict[str, torch.Tensor]:
    """The checkpoint's state_dict; a dict that holds tensors alone is one itself.

    Raises:
        NotACheckpointError: there is none.
    """
    for candidate in (*(checkpoint.get(key) for key in _WRAPPED), checkpoint):
        if isinstance(candidate, Mapping) and candidate and all(map(_is_weight, candidate.items())):
            return dict(candidate)
    raise NotACheckpointError(
        f"{source}: expected {listed(_WRAPPED)} or a plain state_dict, found {listed(sorted(map(str, checkpoint)))}"
    )


def _is_weight(item: tuple[Any, Any]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], torch.Tensor)


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
