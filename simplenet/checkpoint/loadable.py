"""Refuse to save a network that could not be loaded back, at once and with the remedy."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from simplenet.checkpoint.rebuild import rebuild
from simplenet.checkpoint.state_dict import check_weights
from simplenet.errors import CheckpointError, ConfigError, GoldenMismatchError, KeyMismatchError, ShapeMismatchError
from simplenet.golden import verify_golden
from simplenet.model import ARCHITECTURE, SimpleNet, build_model
from simplenet.preprocessing import InputSpec
from simplenet.text import quoted


def require_loadable(model: nn.Module, model_config: Mapping[str, Any]) -> None:
    """Check that the class and the model_config rebuild a network with the same weights; nothing is allocated.

    Raises:
        CheckpointError: they rebuild one of other names or shapes.
        ConfigError: they rebuild none.

    Example:
        >>> model = SimpleNet(4, 8, 3)
        >>> require_loadable(model, {"input_size": 4, "hidden_size": 8, "num_classes": 3})
    """
    network = type(model)
    arguments = {name: value for name, value in model_config.items() if name != ARCHITECTURE}
    try:
        with torch.device("meta"):
            twin = build_model(arguments, network)
    except ConfigError as error:
        if network.__module__.startswith("torch."):  # a factory of the user's may build it
            return
        raise ConfigError(
            f"cannot be loaded back: {error}; give its constructor's arguments as model_config"
        ) from error
    try:
        check_weights(twin, model.state_dict(), network.__name__)
    except (KeyMismatchError, ShapeMismatchError) as error:
        raise type(error)(f"cannot be loaded back: {error}; {_remedy(model, twin)}") from error
    except CheckpointError:  # of dtypes: the network's own may be narrower
        return


def require_same_outputs(
    model: nn.Module, model_config: Mapping[str, Any], golden: Mapping[str, torch.Tensor], spec: InputSpec
) -> None:
    """Check that a SimpleNet rebuilt from these weights computes the same; it does not if its ReLU was replaced.

    Raises:
        CheckpointError: it computes something else.
    """
    if type(model) is not SimpleNet:
        return
    twin = rebuild(model_config, model.state_dict(), "SimpleNet", SimpleNet)
    try:
        verify_golden(twin, golden, "SimpleNet", spec)
    except GoldenMismatchError as error:
        raise CheckpointError(
            "SimpleNet: cannot be loaded back: with these weights it computes something else than this network, in "
            "which a layer or a hook was replaced; define a class of your own that makes it, and save that"
        ) from error


def _remedy(model: nn.Module, twin: nn.Module) -> str:
    """What to do about weights that the rebuilt network would not have."""
    parametrized = [name for name, module in model.named_modules() if parametrize.is_parametrized(module)]
    if parametrized:
        call = "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')"
        return f"for each of {quoted(parametrized)} call {call}"
    names = model.state_dict()
    normed = [name[:-2] for name in names if name.endswith("_g") and f"{name[:-2]}_v" in names]
    if normed:
        layers = [name.rpartition(".")[0] for name in normed]
        return f"for each of {quoted(layers)} call torch.nn.utils.remove_weight_norm(layer)"
    pruned = [name[: -len("_mask")] for name in names if name.endswith("_mask")]
    if pruned:
        layers = [name.rpartition(".")[0] for name in pruned]
        return f"for each of {quoted(layers)} call torch.nn.utils.prune.remove(layer, 'weight')"
    expected = twin.state_dict()
    changed = [name for name in names if name in expected and expected[name].shape != names[name].shape]
    if changed:
        return f"{quoted(changed)} were replaced: build the network with these sizes in its constructor"
    return "a layer was added or replaced: define it in a class of your own, whose constructor makes it, and save that"
