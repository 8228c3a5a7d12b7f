"""Rebuild a network from its model_config and its weights."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from simplenet.checkpoint.state_dict import load_weights
from simplenet.model import ARCHITECTURE, DEFAULT_ARCHITECTURE, SimpleNet, build_model


def rebuild(
    model_config: Mapping[str, Any],
    state_dict: Mapping[str, torch.Tensor],
    source: str,
    network: Callable[..., nn.Module] | None = None,
) -> nn.Module:
    """The network of a model_config with these weights, in their own dtype and on their own device.

    Args:
        model_config: the constructor's arguments.
        state_dict: all of the network's weights; they become its parameters, without a copy.
        source: their name in messages.
        network: the class to build, if it is not registered.

    Raises:
        ConfigError: the model_config cannot rebuild the network.
        CheckpointError: the weights do not fit it.

    Example:
        >>> config = {"input_size": 4, "hidden_size": 8, "num_classes": 3}
        >>> rebuild(config, SimpleNet(**config).state_dict(), "model.pt").fc1
        Linear(in_features=4, out_features=8, bias=True)
    """
    model = unfilled_model(model_config, network)
    load_weights(model, state_dict, source)
    return model


def unfilled_model(model_config: Mapping[str, Any], network: Callable[..., nn.Module] | None = None) -> nn.Module:
    """Build a network to which `load_weights` will assign every weight.

    A SimpleNet allocates no memory: loading does not need twice that of the weights, and an absurd config does no harm.
    Other networks may have tensors that no checkpoint holds.
    """
    named = model_config.get(ARCHITECTURE, DEFAULT_ARCHITECTURE) if isinstance(model_config, Mapping) else None
    is_simplenet = network is SimpleNet or (network is None and named == DEFAULT_ARCHITECTURE)
    with torch.device("meta" if is_simplenet else "cpu"):
        return build_model(model_config, network)
