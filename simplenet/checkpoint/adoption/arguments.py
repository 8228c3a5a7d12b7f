"""The arguments of a network's constructor, where training programs store them among others."""

import inspect
import json
import shlex
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from simplenet.checkpoint.adoption.labels import attributes_of
from simplenet.checkpoint.entries import is_small, plain_data
from simplenet.checkpoint.keys import MODEL_CONFIG
from simplenet.checkpoint.weights import weights_in
from simplenet.errors import CheckpointError, ConfigError, SimpleNetError
from simplenet.model import ARCHITECTURE, build_model
from simplenet.text import quoted, shortened

_HOLDERS = (MODEL_CONFIG, "hyper_parameters", "hparams", "model_args", "kwargs", "config", "args")
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def stored_config(
    contents: object, network: Callable[..., nn.Module], source: str, key: str | None = None
) -> tuple[dict[str, Any], list[str]]:
    """The arguments that a file has for the constructor of one's own network, else none; and a line on what is unusual.

    Args:
        contents: what the file holds.
        network: the class.
        source: the file, in messages.
        key: where its weights are, as `weights_in` takes it.

    Raises:
        ConfigError: the constructor takes none of them.

    Example:
        >>> class Net(nn.Linear):
        ...     def __init__(self, size): super().__init__(size, 3)
        >>> stored_config({"hparams": {"size": 4, "lr": 0.1}}, Net, "m.pt")
        ({'size': 4}, ["model_config: {'size': 4} from 'hparams'"])
    """
    stored = contents.get(MODEL_CONFIG) if isinstance(contents, Mapping) else None
    reasons: list[str] = []
    if isinstance(stored, Mapping):
        try:
            arguments = {str(name): value for name, value in stored.items() if name != ARCHITECTURE}
            build_model(arguments, network)
            return plain_data(arguments, MODEL_CONFIG), []
        except SimpleNetError as error:
            reasons.append(str(error))
    place, arguments = _chosen(contents, network, source, key, reasons)
    lines = [f"model_config: {shortened(arguments)} from {place!r}"] if place else []
    if isinstance(stored, Mapping) and place != MODEL_CONFIG:
        lines.insert(0, f"model_config: {shortened(stored)} left aside ({reasons[0]})")
    elif isinstance(stored, Mapping):
        extra = [name for name in stored if name not in (*arguments, ARCHITECTURE)]
        lines = [f"{lines[0]}; {quoted(extra)} left aside"]
    return arguments, lines


def _chosen(
    contents: object, network: Callable[..., nn.Module], source: str, key: str | None, reasons: list[str]
) -> tuple[str, dict[str, Any]]:
    """The first arguments with which the weights fit, and where they are; the first that build it if there are none."""
    built = []
    for place, arguments in (*stored_arguments(contents, network), ("", {})):
        try:
            built.append((place, arguments, build_model(arguments, network).state_dict()))
        except SimpleNetError as error:
            reasons.append(str(error))
    if not built:
        option = arguments_to_name(contents, network)
        raise ConfigError(f"{source}: {reasons[0]}; name the constructor's arguments: {option}")
    # The width among the arguments of a training may be that of the pictures.
    fitting = (one for one in built if len(built) == 1 or _fits(contents, one[2], source, key))
    place, arguments, _ = next(fitting, built[0])
    return place, arguments


def _fits(contents: object, wanted: Mapping[str, torch.Tensor], source: str, key: str | None) -> bool:
    try:
        weights_in(contents, source, key=key, wanted=wanted)
    except SimpleNetError:
        return False
    return True


def stored_arguments(contents: object, network: Callable[..., Any]) -> list[tuple[str, dict[str, Any]]]:
    """Each entry of a file that has all arguments that the constructor requires, reduced to what it takes.

    Example:
        >>> def network(channels, depth=2): ...
        >>> stored_arguments({"hparams": {"lr": 0.1, "channels": 4}, "args": {"depth": 3}}, network)
        [('hparams', {'channels': 4})]
    """
    required = [name for name, needed in _parameters(network).items() if needed]
    return [
        (place, found)
        for place, found in _partial_arguments(contents, network)
        if found and all(name in found for name in required)
    ]


def arguments_to_name(contents: object, network: Callable[..., Any]) -> str:
    """The option that gives the constructor what it requires, as far as the file knows it.

    Example:
        >>> def network(channels, depth, dropout=0.5): ...
        >>> print(arguments_to_name({"hparams": {"depth": 3}}, network))
        --model-config '{"channels": …, "depth": 3}'
    """
    parameters = _parameters(network)
    names = [name for name, needed in parameters.items() if needed] or list(parameters)
    found = max((arguments for _, arguments in _partial_arguments(contents, network)), key=len, default={})
    entries = (f'"{name}": {json.dumps(found[name]) if name in found else "…"}' for name in names)
    return f"--model-config {shlex.quote('{' + (', '.join(entries) or '…') + '}')}"


def _partial_arguments(contents: object, network: Callable[..., Any]) -> list[tuple[str, dict[str, Any]]]:
    parameters = _parameters(network)
    return [
        (place, {name: _plain(part[name]) for name in parameters if name in part and _is_plain(part[name])})
        for place in _HOLDERS
        if isinstance(contents, Mapping)
        for part in attributes_of(contents.get(place))
    ]


def _parameters(network: Callable[..., Any]) -> dict[str, bool]:
    """The named parameters of the constructor, and whether each must be given."""
    try:
        parameters = inspect.signature(network).parameters.values()
    except (TypeError, ValueError):  # of a class without a signature
        return {}
    return {one.name: one.default is one.empty for one in parameters if one.kind in _NAMED}


def _plain(value: Any) -> Any:
    return plain_data(value, MODEL_CONFIG)


def _is_plain(value: Any) -> bool:
    """Whether it is a number, text, None or a list of them: what JSON and a constructor both understand."""
    try:
        plain = _plain(value) if is_small(value) else value
    except CheckpointError:
        return False
    items = plain if isinstance(plain, (list, tuple)) else [plain]
    return all(item is None or type(item) in (bool, int, float, str) for item in items)
