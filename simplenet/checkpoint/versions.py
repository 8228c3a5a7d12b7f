"""Versions of a network side by side: saved under names of their own, listed by age, compared layer by layer."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import nn

from simplenet.atomic import PathLike
from simplenet.checkpoint.file import read_checkpoint, write_checkpoint
from simplenet.checkpoint.inference import inference_checkpoint
from simplenet.checkpoint.keys import CLASSES, CONTENT_HASH, METADATA, PARENT_HASH, TIMESTAMP
from simplenet.checkpoint.weights import find_state_dict, read_weights
from simplenet.errors import SimpleNetError
from simplenet.storage import StoredFile, is_remote, list_objects, local_copy, local_output

SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors", ".mar")  # of the files that a listing opens
SHORT_HASH = 8  # hexadecimal digits
_CHUNK = 2**22  # elements of a tensor that are compared at a time, in float64


@dataclass(frozen=True)
class Version:
    """One line of a listing."""

    file: str  # a path, or s3://bucket/key
    date: str  # ISO 8601, UTC: when it was saved, or else when the file was last written
    hash8: str | None  # the content hash that the file carries, shortened
    parent8: str | None  # that of the checkpoint it came from
    accuracy: Any  # as the metadata has it
    error: str | None = None  # why the file cannot be read


def save_versioned_model(
    model: nn.Module, metadata: Mapping[str, Any] | None, save_dir: PathLike = "models", **inference: Any
) -> str:
    """Save a network for serving as `<save_dir>/model_<timestamp>_<hash8>.pt`, whole or not at all.

    The timestamp is UTC to the second, the eight hexadecimal digits begin the content hash. The same weights saved
    twice within a second are one version, with the later metadata.

    Args:
        model: the network; the checkpoint that it was loaded from becomes its `parent_hash`.
        metadata: plain values to keep (accuracy, dataset, …).
        save_dir: a folder, made if missing, or `s3://bucket/folder`.
        **inference: `model_config`, `classes`, `golden_inputs`, as `save_for_inference` takes them.

    Returns:
        The path or address of the file.

    Raises:
        CheckpointError: metadata or classes cannot be stored, or the network answers NaN.
        ConfigError: the network carries no model_config and none is given.
        StorageError: the file cannot be stored at the address.
    """
    checkpoint = inference_checkpoint(model, metadata, **inference)
    own = checkpoint[METADATA]
    saved = datetime.fromisoformat(own[TIMESTAMP])
    name = f"model_{saved:%Y%m%d_%H%M%S}_{own[CONTENT_HASH][:SHORT_HASH]}.pt"
    filepath = f"{str(save_dir).rstrip('/')}/{name}" if is_remote(save_dir) else str(Path(save_dir) / name)
    with local_output(filepath) as target:
        write_checkpoint(checkpoint, target)
    return filepath


def list_versions(folder: PathLike) -> list[Version]:
    """Every checkpoint and archive in a folder, at any depth, the oldest first.

    A damaged file is listed with what is wrong. The hashes are read, not verified: nothing but the metadata of a
    local checkpoint is read. An object of S3 is fetched whole.

    Raises:
        StorageError: the folder cannot be listed.
    """
    files = [file for file in list_objects(folder) if file.address.endswith(SUFFIXES)]
    dated = [(_version(file), file.modified) for file in files]
    dated.sort(key=lambda item: (item[0].date, item[1], item[0].file))
    return [version for version, _ in dated]


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


def _version(file: StoredFile) -> Version:
    modified = file.modified.isoformat(timespec="seconds")
    try:
        with local_copy(file.address) as path:
            checkpoint = read_checkpoint(path, mapped=True)
            find_state_dict(checkpoint, str(path))
    except (SimpleNetError, OSError) as error:
        return Version(file.address, modified, None, None, None, str(error))
    metadata = checkpoint.get(METADATA)
    metadata = metadata if isinstance(metadata, dict) else {}
    return Version(
        file.address,
        _utc(metadata.get(TIMESTAMP)) or modified,
        _short(metadata.get(CONTENT_HASH)),
        _short(metadata.get(PARENT_HASH)),
        metadata.get("accuracy"),
    )


def _utc(timestamp: Any) -> str | None:
    """The timestamp in the form of a listing; None if it is none. Without a time zone it is taken for UTC."""
    try:
        moment = datetime.fromisoformat(timestamp)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        return moment.astimezone(timezone.utc).isoformat(timespec="seconds")
    except (TypeError, ValueError, OverflowError):
        return None


def _short(value: Any) -> str | None:
    return value[:SHORT_HASH] if isinstance(value, str) else None


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
            change = {"change": f"only in {side}", "shape": list(there.shape), "dtype": _dtype(there)}
        if change:
            layers[name] = change
    return layers


def _change(a: torch.Tensor, b: torch.Tensor) -> dict[str, Any]:
    """How one weight that is in both differs, in the form of `diff`; empty if it does not."""
    dtypes = _dtype(a), _dtype(b)
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


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
