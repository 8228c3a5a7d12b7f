"""What the command shows: plain data as tables for people, as JSON for programs."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

from rich.markup import escape
from rich.table import Column, Table

_MOVES = {"distance": ".3g", "largest": ".3g", "changed": ".2%"}


def as_json(value: Any) -> str:
    """Indented JSON; the standard library's, for metadata may hold numbers of any size."""
    return json.dumps(value, indent=2, default=_plain)


def of_description(description: dict[str, Any]) -> Table:
    """What `simplenet.inspection.describe` returns, a line each entry."""
    table = Table(show_header=False)
    for key, value in _flatten(description):
        table.add_row(escape(key), escape(value))
    return table


def of_predictions(answers: Sequence[tuple[str, list[dict[str, Any]]]]) -> Table:
    """The predictions for each file, in order."""
    table = Table("file", "row", "label", "probability")
    for file, predictions in answers:
        for row, prediction in enumerate(predictions):
            for rank, answer in enumerate(prediction.get("top_k", [prediction])):
                where = ("", "") if rank else (escape(file), str(row))
                table.add_row(*where, escape(answer["label"]), f"{answer['probability']:.4f}")
    return table


def of_versions(versions: Sequence[Any], folder: str) -> Table:
    """What `simplenet.checkpoint.versions.list_versions` returns; `folder` is left out of the names."""
    damaged = any(version.error for version in versions)
    table = Table("date (UTC)", Column("file", overflow="fold"), "version", "parent", "accuracy")
    if damaged:
        table.add_column("error")
    for version in versions:
        date = version.date.removesuffix("+00:00").replace("T", " ")
        file = version.file.removeprefix(f"{folder.rstrip('/')}/")
        accuracy = "" if version.accuracy is None else _number(version.accuracy, ".4f")
        error = (version.error or "").removeprefix(f"{version.file}: ")
        cells = date, file, version.hash8 or "", version.parent8 or "", accuracy, error
        table.add_row(*map(escape, cells[: len(table.columns)]))
    return table


def of_differences(found: dict[str, Any], a: str, b: str) -> tuple[Table, Table]:
    """What `simplenet.checkpoint.versions.diff` returns: the fields, and how far each layer moved."""
    fields = Table("field", escape(a), escape(b))
    for key, sides in _differing_fields(found):
        fields.add_row(escape(key), *(escape(_short(sides[side])) if side in sides else "—" for side in ("a", "b")))
    layers = Table("layer", "shape", "dtype", "change", "||b-a||/||a||", "largest", "changed")
    for name, layer in found["layers"].items():
        numbers = [_number(layer[key], form) for key, form in _MOVES.items() if key in layer]
        layers.add_row(escape(name), *(_pair(layer[key]) for key in ("shape", "dtype", "change")), *numbers)
    return fields, layers


def of_certificate(rows: Sequence[dict[str, Any]]) -> Table:
    """The rows of a parity certificate."""
    table = Table("inputs", "device", "dtype", "logit error", "relative", "probability", "same answer")
    for row in rows:
        errors = (f"{row[name]:.2g}" for name in ("logit_error", "relative_error", "probability_error"))
        inputs = f"{row['samples']} {row['inputs']}"
        table.add_row(inputs, escape(row["device"]), row["dtype"], *errors, f"{row['top1_agreement']:.2%}")
    return table


def _differing_fields(found: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for part in ("model_config", "metadata"):
        for key, sides in found[part].items():
            yield f"{part}.{key}", sides
    if found["classes"]:
        yield "classes", found["classes"]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _pair(value: Any) -> str:
    """A value, or the two that differ: of a list of lists or of texts."""
    two = isinstance(value, list) and len(value) == 2 and all(isinstance(item, (list, str)) for item in value)
    return escape(f"{value[0]} → {value[1]}" if two else str(value))


def _number(value: Any, form: str) -> str:
    return format(value, form) if isinstance(value, float) else str(value)


def _plain(item: Any) -> Any:
    return asdict(item) if is_dataclass(item) and not isinstance(item, type) else str(item)


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flatten(item, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for index, row in enumerate(value):
            yield f"{prefix}[{index}]", ", ".join(f"{key} {_number(item, '.3g')}" for key, item in row.items())
    elif isinstance(value, list):
        yield prefix, ", ".join(map(str, value))
    elif value is not None:
        yield prefix, f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
