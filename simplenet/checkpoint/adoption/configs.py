"""The model_config of an adopted file: as the user says, as the file says if the weights fit it, or from the shapes."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from simplenet.checkpoint.adoption.arguments import stored_config
from simplenet.checkpoint.adoption.labels import attributes_of
from simplenet.checkpoint.adoption.modules import other_activation
from simplenet.checkpoint.keys import CONTENT_HASH, MODEL_CONFIG
from simplenet.checkpoint.weights import Weights
from simplenet.errors import ConfigError, KeyMismatchError
from simplenet.model import ARCHITECTURE, DEFAULT_ARCHITECTURE, ModelConfig, build_model, is_foreign, registered
from simplenet.text import shortened

# Where programs store the settings of a network.
_SETTINGS = (MODEL_CONFIG, "hyper_parameters", "hparams", "config", "args", "cfg", "opt")


def simplenet_config(weights: Weights, given: Mapping[str, Any] | None) -> tuple[dict[str, Any], list[str]]:
    """The model_config of a SimpleNet: as given, else as stored if the weights fit it, else from their shapes."""
    shaped, stored = weights.shaped_config, weights.stored_config
    assert shaped is not None
    _require_relu(weights)
    if given is not None:
        return ModelConfig.from_dict(given).to_dict(), replaced_config(stored, given)
    if stored is None:
        value = weights.checkpoint.get(MODEL_CONFIG)
        return shaped, ([] if value is None else [f"model_config: {type(value).__name__} left aside"])
    if is_foreign(stored) and (CONTENT_HASH in weights.metadata or not _names_an_mlp(stored)):
        build_model(stored)  # says how to bring the network
    try:
        if ModelConfig.from_dict(stored).to_dict() == shaped:
            return dict(stored), []
        reason = "the weights have other shapes"
    except ConfigError as error:
        reason = str(error).removeprefix("model_config: ")
    return shaped, [f"model_config: {shortened(stored)} left aside ({reason}); {shaped} from the shapes"]


def _names_an_mlp(model_config: Mapping[str, Any]) -> bool:
    """Whether another program's name for the architecture means a SimpleNet."""
    name = re.sub(r"[^a-z]", "", str(model_config.get(ARCHITECTURE))[:40].lower())
    return name in ("simplenet", "mlp", "simplemlp", "net")


def _require_relu(weights: Weights) -> None:
    """Refuse weights beside which another activation is named: a SimpleNet would compute something else.

    Raises:
        KeyMismatchError: names it, and says how to bring the network.
    """
    for place in ("", *_SETTINGS):
        values = weights.checkpoint.get(place) if place else weights.checkpoint
        for name in filter(None, map(other_activation, attributes_of(values))):
            raise KeyMismatchError(
                f"{weights.source}: the weights would fit a SimpleNet, whose activation is ReLU, but "
                f"{place or 'the file'} names {name!r}; bring the network with --model-file net.py --model-class Net"
            )


def network_config(
    contents: Any, network: Callable[..., nn.Module], source: str, given: Mapping[str, Any] | None, key: str | None
) -> tuple[dict[str, Any], list[str]]:
    """The constructor's arguments of the user's own network: as given, else as stored, among others too, else none."""
    stored = contents.get(MODEL_CONFIG) if isinstance(contents, Mapping) else None
    if given is not None:
        arguments = {name: value for name, value in given.items() if name != ARCHITECTURE}
        return arguments, replaced_config(stored, given)
    return stored_config(contents, network, source, key)


def replaced_config(stored: Any, given: Mapping[str, Any]) -> list[str]:
    """The line about a stored model_config that the given one replaces."""
    if stored is None or shortened(stored) == shortened(dict(given)):
        return []
    return [f"model_config: {shortened(dict(given))} as given, instead of {shortened(stored)} as stored"]


def registered_network(contents: Any, given: Mapping[str, Any] | None) -> Callable[..., nn.Module] | None:
    """The registered network that the model_config names; None for a SimpleNet or another."""
    stored = contents.get(MODEL_CONFIG) if isinstance(contents, Mapping) else None
    config = given if given is not None else stored
    name = config.get(ARCHITECTURE, DEFAULT_ARCHITECTURE) if isinstance(config, Mapping) else None
    return registered(name) if isinstance(name, str) else None
