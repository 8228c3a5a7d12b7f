"""The network, the configuration that rebuilds it, and the registry of other architectures."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import nn

from simplenet.errors import ConfigError
from simplenet.text import quoted, shortened

ARCHITECTURE = "architecture"  # the optional key of a model_config that names a registered network
DEFAULT_ARCHITECTURE = "SimpleNet"
MAX_FIELD = 2**24  # a larger value means a damaged file
MAX_HIDDEN_LAYERS = 64  # so do more of them
_SIZES, _DEEPER_SIZES = (("input_size", hidden, "num_classes") for hidden in ("hidden_size", "hidden_sizes"))

Network = TypeVar("Network", bound=type[nn.Module])


@dataclass(frozen=True, repr=False)
class ModelConfig:
    """What rebuilds a SimpleNet: the constructor's arguments.

    Raises:
        ConfigError: a size is not a whole number from 1 to 2**24.

    Example:
        >>> ModelConfig.from_dict({"input_size": 4, "hidden_size": 8, "num_classes": 3}).to_dict()
        {'input_size': 4, 'hidden_size': 8, 'num_classes': 3}
        >>> ModelConfig(4, hidden_sizes=(16, 8), num_classes=3)
        ModelConfig(input_size=4, hidden_sizes=[16, 8], num_classes=3)
    """

    input_size: int = 784  # numbers in a row: 28 x 28 grey values
    hidden_size: int = 256  # units of the hidden layer, or of the first of several
    num_classes: int = 10  # number of classes
    hidden_sizes: Sequence[int] | None = None  # units of each hidden layer, if there are several

    def __post_init__(self) -> None:
        if self.hidden_sizes is not None:
            sizes = self.hidden_sizes
            if not isinstance(sizes, (list, tuple)) or not 1 <= len(sizes) <= MAX_HIDDEN_LAYERS:
                raise ConfigError(
                    f"model_config['hidden_sizes']: expected a list of 1 to {MAX_HIDDEN_LAYERS} sizes, "
                    f"found {shortened(sizes)}"
                )
            # The type first: nested lists of a damaged file may take forever to compare.
            if type(self.hidden_size) is not int or (
                self.hidden_size != ModelConfig.hidden_size
                and (type(sizes[0]) is not int or self.hidden_size != sizes[0])
            ):
                raise ConfigError(
                    f"model_config: expected hidden_size or hidden_sizes, found {shortened(self.hidden_size)} and "
                    f"{shortened(sizes)}"
                )
            # One hidden layer has one spelling, so that equal networks have equal configs.
            object.__setattr__(self, "hidden_size", sizes[0])
            object.__setattr__(self, "hidden_sizes", tuple(sizes) if len(sizes) > 1 else None)
        for name, value in self.to_dict().items():
            for index, size in enumerate(value if isinstance(value, list) else [value]):
                if type(size) is not int or not 1 <= size <= MAX_FIELD:
                    where = f"[{name!r}][{index}]" if isinstance(value, list) else f"[{name!r}]"
                    raise ConfigError(
                        f"model_config{where}: expected a whole number from 1 to {MAX_FIELD}, found {shortened(size)}"
                    )

    def __repr__(self) -> str:
        return f"ModelConfig({', '.join(f'{name}={value!r}' for name, value in self.to_dict().items())})"

    @property
    def sizes(self) -> tuple[int, ...]:
        """The numbers between the layers, from the input to the classes."""
        return (self.input_size, *(self.hidden_sizes or (self.hidden_size,)), self.num_classes)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelConfig":
        """Read a stored model_config, with `hidden_size` or `hidden_sizes`; unknown fields are refused.

        Raises:
            ConfigError: names the first unknown or missing fields, or the impossible value.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"model_config: expected a dict, found {type(values).__name__}")
        expected = _DEEPER_SIZES if "hidden_sizes" in values else _SIZES
        given = [name for name in values if name != ARCHITECTURE]
        if unknown := [name for name in given if name not in expected]:
            raise ConfigError(f"model_config: unknown field {quoted(unknown)}; expected {quoted(expected)}")
        if missing := [name for name in expected if name not in given]:
            raise ConfigError(f"model_config: missing field {quoted(missing)}; found {quoted(given)}")
        return cls(**{name: values[name] for name in expected})

    def to_dict(self) -> dict[str, Any]:
        """The plain dict that a checkpoint stores."""
        hidden = {"hidden_size": self.hidden_size} if self.hidden_sizes is None else {}
        deeper = {} if self.hidden_sizes is None else {"hidden_sizes": list(self.hidden_sizes)}
        return {"input_size": self.input_size, **hidden, **deeper, "num_classes": self.num_classes}


class SimpleNet(nn.Module):
    """A multi-layer perceptron: linear, ReLU, linear; or with several hidden layers, and a ReLU after each.

    Args:
        input_size: numbers in a row.
        hidden_size: units of the hidden layer.
        num_classes: number of classes.
        hidden_sizes: units of each hidden layer, instead of `hidden_size`.

    Raises:
        ConfigError: a size is not a whole number from 1 to 2**24, or both `hidden_size` and `hidden_sizes` are given.

    Example:
        >>> model = SimpleNet(input_size=784, hidden_size=256, num_classes=10)
        >>> model(torch.rand(2, 784)).shape
        torch.Size([2, 10])
        >>> SimpleNet(784, hidden_sizes=(128, 64), num_classes=10).fc3  # the classifier head is the last layer
        Linear(in_features=64, out_features=10, bias=True)
    """

    _further: tuple[str, ...] = ()  # the layers after fc2

    def __init__(
        self,
        input_size: int = ModelConfig.input_size,
        hidden_size: int = ModelConfig.hidden_size,
        num_classes: int = ModelConfig.num_classes,
        hidden_sizes: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.config = ModelConfig(input_size, hidden_size, num_classes, hidden_sizes)
        sizes = self.config.sizes
        self.fc1 = nn.Linear(sizes[0], sizes[1])
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(sizes[1], sizes[2])  # the classifier head, unless there are further layers
        for number in range(3, len(sizes)):
            self.add_module(f"fc{number}", nn.Linear(sizes[number - 1], sizes[number]))
            self._further += (f"fc{number}",)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of each row: `(batch, input_size)` float to `(batch, num_classes)` of the same dtype."""
        hidden = self.relu(self.fc1(x))  # (batch, hidden_size)
        outputs = self.fc2(hidden)  # (batch, num_classes)
        for name in self._further:
            outputs = getattr(self, name)(self.relu(outputs))
        return cast(torch.Tensor, outputs)


_REGISTRY: dict[str, type[nn.Module]] = {DEFAULT_ARCHITECTURE: SimpleNet}


def register_architecture(network: Network) -> Network:
    """Class decorator: let `model_config["architecture"]` name this network by its class name.

    The network's constructor takes the other fields of the model_config as keyword arguments.

    Example:
        >>> @register_architecture
        ... class OneLayer(nn.Module):
        ...     def __init__(self, input_size: int, num_classes: int) -> None:
        ...         super().__init__()
        ...         self.config = {"input_size": input_size, "num_classes": num_classes}
        ...         self.head = nn.Linear(input_size, num_classes)
        ...
        ...     def forward(self, x: torch.Tensor) -> torch.Tensor:
        ...         return self.head(x)
        >>> from simplenet import load_model_for_inference, save_for_inference
        >>> save_for_inference(OneLayer(4, 3), "one-layer.pt")
        >>> load_model_for_inference("one-layer.pt").head
        Linear(in_features=4, out_features=3, bias=True)
    """
    _REGISTRY[network.__name__] = network
    return network


def is_foreign(model_config: Mapping[str, Any]) -> bool:
    """Whether the model_config names a network that is not registered here."""
    name = model_config.get(ARCHITECTURE, DEFAULT_ARCHITECTURE)
    return isinstance(name, str) and name not in _REGISTRY


def registered(name: str) -> type[nn.Module] | None:
    """The network registered under this name, if there is one.

    Example:
        >>> registered("SimpleNet").__name__
        'SimpleNet'
    """
    return _REGISTRY.get(name)


def build_model(model_config: Mapping[str, Any], network: Callable[..., nn.Module] | None = None) -> nn.Module:
    """Rebuild a network from its stored model_config, with fresh weights.

    Args:
        model_config: the constructor's arguments, and optionally `architecture`.
        network: the class to build, if it is not registered.

    Raises:
        ConfigError: the architecture is not registered, or a field is unknown, missing or impossible.

    Example:
        >>> build_model({"input_size": 4, "hidden_size": 8, "num_classes": 3}).fc2
        Linear(in_features=8, out_features=3, bias=True)
    """
    if not isinstance(model_config, Mapping):
        raise ConfigError(f"model_config: expected a dict, found {type(model_config).__name__}")
    if network is None:
        name = model_config.get(ARCHITECTURE, DEFAULT_ARCHITECTURE)
        if not isinstance(name, str) or name not in _REGISTRY:
            raise ConfigError(
                f"model_config['architecture']: expected one of {quoted(sorted(_REGISTRY))}, found {shortened(name)}; "
                "archive your own network with --model-file and --model-class"
            )
        network = _REGISTRY[name]
    arguments = _constructor_arguments(model_config, network)
    try:
        return network(**arguments)
    except Exception as error:  # a user's constructor refuses values in its own way; torch refuses to allocate
        raise ConfigError(f"model_config does not fit {network.__name__}: {type(error).__name__}: {error}") from error


def _constructor_arguments(model_config: Mapping[str, Any], network: Callable[..., nn.Module]) -> dict[str, Any]:
    if network is SimpleNet:
        return {**ModelConfig.from_dict(model_config).to_dict()}
    arguments = {name: value for name, value in model_config.items() if name != ARCHITECTURE}
    try:
        inspect.signature(network).bind(**arguments)
    except TypeError as error:
        raise ConfigError(f"model_config does not fit {network.__name__}: {error}") from error
    return arguments


def bare_network(model: nn.Module) -> nn.Module:
    """The network without the wrappers of torch.compile, DataParallel and DistributedDataParallel."""
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif isinstance(compiled := getattr(model, "_orig_mod", None), nn.Module):
            model = compiled
        else:
            return model


def model_config_of(model: nn.Module) -> dict[str, Any]:
    """The model_config that rebuilds `model`: its `config`, with the class name unless it is a SimpleNet.

    A network whose constructor takes no arguments needs no `config`.

    Raises:
        ConfigError: `config` is not a ModelConfig or a dict.
    """
    config = getattr(model, "config", None)
    if config is None and not inspect.signature(type(model)).parameters:
        config = {}
    if isinstance(config, ModelConfig):
        config = config.to_dict()
    if not isinstance(config, Mapping):
        raise ConfigError(
            f"{type(model).__name__}.config: expected a ModelConfig or a dict of the constructor's arguments, "
            f"found {type(config).__name__}; or pass model_config="
        )
    named = {} if type(model) is SimpleNet else {ARCHITECTURE: type(model).__name__}
    return {**config, **named}
