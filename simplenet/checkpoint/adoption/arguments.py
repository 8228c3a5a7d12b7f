"""The arguments of a network's constructor, where training programs store them among others."""

import inspect
import json
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from simplenet.checkpoint.adoption.labels import attributes_of
from simplenet.checkpoint.entries import is_small, plain_data
from simplenet.checkpoint.keys import MODEL_CONFIG
from simplenet.errors import CheckpointError

_HOLDERS = (MODEL_CONFIG, "hyper_parameters", "hparams", "model_args", "kwargs", "config", "args")
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


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
