"""Compare two files that hold weights: config, metadata and, layer by layer, how far the weights moved."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from simplenet.checkpoint.keys import CLASSES
from simplenet.checkpoint.weights import read_weights
from simplenet.paths import PathLike
from simplenet.text import dtype_name

_CHUNK = 2**22  # elements of a tensor that are compared at a time, in float64


def diff(a: PathLike, b: PathLike) -> dict[str, Any]:
    """Compare two files that hold weights, checkpoints or archives, as plain data.

    Returns:
        `model_config` and `metadata`: for each field that differs `{"a": value, "b": value}`, without the side that
        lacks it; nested fields by dotted names. `classes`: the same pair where the labels differ, or empty.
        `layers`: for each weight that differs a dict with
        `change`: `moved`, `reshaped`, `only in a` or `only in b`;
        `shape` and `dtype`: one, or a pair where they differ;
        and where it moved `distance`: ||b - a|| / ||a|| (L2; infinite from all zeros), `largest`: the largest
        absolute change of an element, `changed`: the share of elements that changed, 0..1.
        `same`: the names of the weights that are equal, in value and dtype.

    Raises:
        CheckpointError: a file cannot be read, or its weights are not the ones that were saved.
    """
    first, second = read_weights(a, mapped=True), read_weights(b, mapped=True)
    layers = _layers(first.state_dict, second.state_dict)
    labels = ({CLASSES: found} if (found := one.checkpoint.get(CLASSES)) else {} for one in (first, second))
    return {
        "model_config": _differences(first.model_config or {}, second.model_config or {}),
        "metadata": _differences(first.metadata, second.metadata),
        "classes": _differences(*labels).get(CLASSES, {}),
        "layers": layers,
        "same": [name for name in first.state_dict if name not in layers],
    }


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The entries that differ, as {"a": value, "b": value}; a side that has none has no value."""
    first, second = dict(_fields(a)), dict(_fields(b))
    found: dict[str, dict[str, Any]] = {}
    for key in {**first, **second}:
        sides = {side: entries[key] for side, entries in (("a", first), ("b", second)) if key in entries}
        if len(sides) == 1 or repr(sides["a"]) != repr(sides["b"]):  # a tensor or a NaN has no simple !=
            found[key] = sides
    return found


def _fields(value: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from _fields(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(item) if isinstance(item, tuple) else item


def _layers(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> dict[str, dict[str, Any]]:
    """The weights that differ, in the form of `diff`."""
    layers = {}
    for name in {**a, **b}:
        if name in a and name in b:
            change = _change(a[name], b[name])
        else:
            side, there = ("a", a[name]) if name in a else ("b", b[name])
            change = {"change": f"only in {side}", "shape": list(there.shape), "dtype": dtype_name(there.dtype)}
        if change:
            layers[name] = change
    return layers


def _change(a: torch.Tensor, b: torch.Tensor) -> dict[str, Any]:
    """How one weight that is in both differs, in the form of `diff`; empty if it does not."""
    dtypes = dtype_name(a.dtype), dtype_name(b.dtype)
    dtype = dtypes[0] if dtypes[0] == dtypes[1] else list(dtypes)
    if a.shape != b.shape:
        return {"change": "reshaped", "shape": [list(a.shape), list(b.shape)], "dtype": dtype}
    moved = _moved(a, b)
    if not moved["changed"] and isinstance(dtype, str):
        return {}
    return {"change": "moved", "shape": list(a.shape), "dtype": dtype, **moved}


def _moved(a: torch.Tensor, b: torch.Tensor) -> dict[str, float]:
    """How far the elements moved, summed in float64; two NaN in one place are no change."""
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
    return {"distance": distance, "largest": largest, "changed": changed / max(a.numel(), 1)}
