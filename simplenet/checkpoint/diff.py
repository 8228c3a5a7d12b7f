"""Compare two files that hold weights: config, metadata and, layer by layer, how far the weights moved."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from simplenet.checkpoint.entries import plain_part
from simplenet.checkpoint.keys import CLASSES
from simplenet.checkpoint.weights import read_weights
from simplenet.paths import PathLike
from simplenet.text import dtype_name

ABSENT = object()  # the value of a field on the side that lacks it; None is a value
_CHUNK = 2**22  # elements of a tensor compared at a time, in float64


@dataclass(frozen=True)
class FieldChange:
    """A field of the config, the metadata or the classes that differs."""

    a: Any = ABSENT
    b: Any = ABSENT

    def to_dict(self) -> dict[str, Any]:
        """`{"a": value, "b": value}`, without the side that lacks the field."""
        return {side: value for side, value in (("a", self.a), ("b", self.b)) if value is not ABSENT}


@dataclass(frozen=True)
class Layout:
    """The shape and dtype of a weight."""

    shape: list[int]
    dtype: str


@dataclass(frozen=True)
class Movement:
    """How far the elements of a weight moved, computed in float64; NaN in both is no change."""

    distance: float  # ||b - a|| / ||a|| (L2); infinite if `a` is all zeros
    largest: float  # absolute change of an element
    changed: float  # share of the elements, 0..1


@dataclass(frozen=True)
class LayerChange:
    """A weight that differs."""

    a: Layout | None  # None where the file lacks it
    b: Layout | None
    movement: Movement | None = None  # if both files have it in the same shape

    @property
    def change(self) -> str:
        """`moved`, `reshaped`, `only in a` or `only in b`."""
        if self.a is None or self.b is None:
            return "only in b" if self.a is None else "only in a"
        return "moved" if self.movement else "reshaped"

    @property
    def shapes(self) -> list[list[int]]:
        """One shape, or two where they differ."""
        return _distinct([layout.shape for layout in (self.a, self.b) if layout])

    @property
    def dtypes(self) -> list[str]:
        """One dtype, or two where they differ."""
        return _distinct([layout.dtype for layout in (self.a, self.b) if layout])

    def to_dict(self) -> dict[str, Any]:
        """The change as plain data; a shape or dtype is a pair where the two differ."""
        return {
            "change": self.change,
            "shape": _one_or_pair(self.shapes),
            "dtype": _one_or_pair(self.dtypes),
            **(asdict(self.movement) if self.movement else {}),
        }


@dataclass(frozen=True)
class Comparison:
    """What differs between two files; nested fields have dotted names."""

    model_config: dict[str, FieldChange]
    metadata: dict[str, FieldChange]
    classes: FieldChange | None  # if the labels differ
    layers: dict[str, LayerChange]  # the weights that differ
    same: tuple[str, ...]  # names of the weights that are equal, in value and dtype

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain data, for JSON."""
        return {
            "model_config": {name: change.to_dict() for name, change in self.model_config.items()},
            "metadata": {name: change.to_dict() for name, change in self.metadata.items()},
            "classes": self.classes.to_dict() if self.classes else {},
            "layers": {name: change.to_dict() for name, change in self.layers.items()},
            "same": list(self.same),
        }


def diff(a: PathLike, b: PathLike) -> Comparison:
    """Compare two files that hold weights, checkpoints or archives.

    Raises:
        CheckpointError: a file cannot be read, or its weights are not the ones that were saved.

    Example:
        >>> torch.save({"bias": torch.tensor([3.0, 4.0])}, "a.pt")
        >>> torch.save({"bias": torch.tensor([3.0, 4.5])}, "b.pt")
        >>> diff("a.pt", "b.pt").layers["bias"].movement
        Movement(distance=0.1, largest=0.5, changed=0.5)
    """
    first, second = read_weights(a, mapped=True), read_weights(b, mapped=True)
    weights = [{n: t for n, t in file.state_dict.items() if n not in file.made} for file in (first, second)]
    layers = _layer_changes(*weights)
    labels = ({CLASSES: names} if (names := file.classes) else {} for file in (first, second))
    return Comparison(
        # A config of somebody else's may hold itself, or another a billion times.
        model_config=_field_changes(*(plain_part(file.model_config, "model_config")[0] for file in (first, second))),
        metadata=_field_changes(first.metadata, second.metadata),
        classes=_field_changes(*labels).get(CLASSES),
        layers=layers,
        same=tuple(name for name in weights[0] if name not in layers),
    )


def _field_changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, FieldChange]:
    first, second = dict(_fields(a)), dict(_fields(b))
    changes = {key: FieldChange(first.get(key, ABSENT), second.get(key, ABSENT)) for key in {**first, **second}}
    return {key: change for key, change in changes.items() if _differs(change)}


def _differs(change: FieldChange) -> bool:
    lacking = change.a is ABSENT or change.b is ABSENT
    return lacking or repr(change.a) != repr(change.b)  # a tensor or a NaN has no simple !=


def _fields(value: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from _fields(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(item) if isinstance(item, tuple) else item


def _layer_changes(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> dict[str, LayerChange]:
    """The weights that differ, those of `a` first."""
    changes = ((name, _layer_change(a.get(name), b.get(name))) for name in {**a, **b})
    return {name: change for name, change in changes if change}


def _layer_change(a: torch.Tensor | None, b: torch.Tensor | None) -> LayerChange | None:
    """How one weight differs; None if it does not."""
    if a is None or b is None or a.shape != b.shape:
        return LayerChange(_layout(a), _layout(b))
    movement = _movement(a, b)
    return LayerChange(_layout(a), _layout(b), movement) if movement.changed or a.dtype != b.dtype else None


def _layout(weight: torch.Tensor | None) -> Layout | None:
    return None if weight is None else Layout(list(weight.shape), dtype_name(weight.dtype))


def _movement(a: torch.Tensor, b: torch.Tensor) -> Movement:
    wide = torch.complex128 if a.is_complex() or b.is_complex() else torch.float64
    squares = origin = largest = 0.0
    changed = 0
    for first, second in zip(a.reshape(-1).split(_CHUNK), b.reshape(-1).split(_CHUNK), strict=True):
        x, y = first.to(wide), second.to(wide)
        differs = (x != y) & ~(x.isnan() & y.isnan())
        origin += float(x.abs().square().sum())
        if differs.any():
            moves = (y - x)[differs].abs()
            squares += float(moves.square().sum())
            largest = float(torch.maximum(moves.max(), torch.tensor(largest, dtype=moves.dtype)))
            changed += int(differs.sum())
    distance = math.sqrt(squares) / math.sqrt(origin) if origin else (math.inf if squares else 0.0)
    return Movement(distance, largest, changed / max(a.numel(), 1))


def _distinct(values: list[Any]) -> list[Any]:
    return values[:1] if values[0] == values[-1] else values


def _one_or_pair(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values
