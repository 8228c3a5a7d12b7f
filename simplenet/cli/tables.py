"""The output of the command: tables for people, JSON for programs."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

from rich import markup
from rich.table import Column, Table

from simplenet.text import visible

if TYPE_CHECKING:
    from simplenet.checkpoint.certify import Certificate
    from simplenet.checkpoint.diff import Comparison, FieldChange
    from simplenet.checkpoint.versions import Version
    from simplenet.inspection import Description
    from simplenet.server import VersionStatus
    from simplenet.server.status import Status

_SENTENCE = 40  # characters; a list of longer texts has a row for each


def escape(text: str) -> str:
    """A file's text in a table: neither rich's markup nor the terminal's escapes have an effect."""
    return markup.escape(visible(text))


def as_json(value: Any) -> str:
    """Indented JSON, from the standard library, because metadata may hold integers of any size."""
    return json.dumps(value, indent=2, default=_plain)


def of_description(description: "Description") -> Table:
    """A description, one line per entry."""
    table = Table(show_header=False)
    for key, value in _flatten(description.to_dict()):
        table.add_row(escape(key), escape(value))
    return table


def of_predictions(predicted: Sequence[tuple[str, list[dict[str, Any]]]]) -> Table:
    """The predictions for each file, in order."""
    table = Table("file", "row", "label", "probability")
    for file, predictions in predicted:
        for row, prediction in enumerate(predictions):
            for rank, candidate in enumerate(prediction.get("top_k", [prediction])):
                where = ("", "") if rank else (escape(file), str(row))
                table.add_row(*where, escape(candidate["label"]), f"{candidate['probability']:.4f}")
    return table


def of_servers(servers: Sequence["Status"]) -> Table:
    """The servers of this user, one line each."""
    long = (Column(name, overflow="fold") for name in ("address", "logs"))
    table = Table("port", "state", "pid", "models", "workers", "since (UTC)", *long)
    for one in servers:
        models = ", ".join(f"{name} {version}" for name, version in one.models.items())
        workers = f"{one.workers} of {one.expected_workers}"
        cells = (
            str(one.port),
            _state_of(one),
            str(one.pid),
            models,
            workers,
            one.since.replace("T", " "),
            one.url,
            one.logs,
        )
        table.add_row(*map(escape, cells))
    return table


def _state_of(server: "Status") -> str:
    if not server.running:
        return "dead"
    if server.stopping:
        return "stopping"
    return "running" if server.watched else "running, not watched"


def of_versions(versions: Sequence["Version"], folder: str) -> Table:
    """A listing, one line per file; `folder` is left out of the names."""
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


def of_rollouts(versions: Sequence["VersionStatus"]) -> Table:
    """The versions of the models on a server, one line each."""
    table = Table("model", "version", "status", Column("hash", no_wrap=True), "deployed (UTC)", "accuracy")
    for each in versions:
        release = each.release
        accuracy = "" if release.accuracy is None else f"{release.accuracy:.4f}"
        date = release.deployed.removesuffix("+00:00").replace("T", " ") or "at the start"
        cells = each.model, each.version, each.status, release.content_hash[:12], date, accuracy
        table.add_row(*map(escape, cells))
    return table


def of_comparison(comparison: "Comparison", a: str, b: str) -> tuple[Table, Table]:
    """What differs between the files `a` and `b`: the fields, and how far each layer moved."""
    fields = Table("field", escape(a), escape(b))
    for key, change in _field_changes(comparison):
        sides = change.to_dict()
        fields.add_row(escape(key), *(escape(_short(sides[side])) if side in sides else "—" for side in ("a", "b")))
    layers = Table("layer", "shape", "dtype", "change", "||b-a||/||a||", "largest", "changed")
    for name, layer in comparison.layers.items():
        shape, dtype = (escape(" → ".join(map(str, values))) for values in (layer.shapes, layer.dtypes))
        moved = layer.movement
        numbers = (f"{moved.distance:.3g}", f"{moved.largest:.3g}", f"{moved.changed:.2%}") if moved else ()
        layers.add_row(escape(name), shape, dtype, layer.change, *numbers)
    return fields, layers


def of_certificate(certificate: "Certificate") -> Table:
    """The rows of a parity certificate."""
    table = Table("inputs", "device", "dtype", "logit error", "relative", "probability", "same class")
    for row in certificate.rows:
        errors = (f"{error:.2g}" for error in (row.logit_error, row.relative_error, row.probability_error))
        inputs = f"{row.samples} {row.inputs}"
        table.add_row(inputs, escape(row.device), row.dtype, *errors, f"{row.top1_agreement:.2%}")
    return table


def _field_changes(comparison: "Comparison") -> Iterator[tuple[str, "FieldChange"]]:
    for part in ("model_config", "metadata"):
        for key, change in getattr(comparison, part).items():
            yield f"{part}.{key}", change
    if comparison.classes:
        yield "classes", comparison.classes


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


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
    elif isinstance(value, list) and len(value) > 1 and any(len(str(item)) > _SENTENCE for item in value):
        yield from ((f"{prefix}[{index}]", str(item)) for index, item in enumerate(value))
    elif isinstance(value, list):
        yield prefix, ", ".join(map(str, value))
    elif value is not None:
        yield prefix, f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
