"""The verbs that read, compare and rewrite checkpoints: inspect, list, diff, certify, repair."""

from dataclasses import replace
from typing import Annotated

import typer

from simplenet.cli import tables
from simplenet.cli.options import AsJson, Key, ModelConfigText, ModelFile, Strict, console, parse_config
from simplenet.errors import CheckpointError


def inspect(
    file: Annotated[str, typer.Argument(help="Any file with weights, or a .mar: a path or an s3:// address.")],
    key: Key = None,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Verify and describe a checkpoint or a .mar without running its code; say how any other file would be adopted."""
    from simplenet.checkpoint.verify import require_whole
    from simplenet.inspection import describe
    from simplenet.storage import local_copy

    with local_copy(file) as path:
        description = replace(describe(path, key), file=file)
    if as_json:
        typer.echo(tables.as_json(description.to_dict()))
    else:
        console.print(tables.of_description(description))
    if description.problem:
        raise CheckpointError(description.problem)
    if strict or description.archive:
        require_whole(file, description.findings)


def list_(
    folder: Annotated[str, typer.Argument(help="A folder, or s3://bucket/folder.")],
    as_json: AsJson = False,
) -> None:
    """List the checkpoints and archives in a folder, the oldest first, with accuracy and parent."""
    from simplenet.checkpoint.versions import list_versions

    versions = list_versions(folder)
    if as_json:
        typer.echo(tables.as_json(versions))
        return
    console.print(tables.of_versions(versions, folder))


def diff(
    a: Annotated[str, typer.Argument(help="A checkpoint or a .mar: a path or an s3:// address.")],
    b: Annotated[str, typer.Argument(help="The file to compare it with.")],
    as_json: AsJson = False,
) -> None:
    """Compare two checkpoints: config, metadata and, layer by layer, how far the weights moved."""
    from simplenet.checkpoint.diff import diff as compare
    from simplenet.storage import local_copy

    with local_copy(a) as first, local_copy(b) as second:
        comparison = compare(first, second)
    if as_json:
        typer.echo(tables.as_json({"a": a, "b": b, **comparison.to_dict()}))
        return
    for table in tables.of_comparison(comparison, a, b):
        if table.row_count:
            console.print(table)
    typer.echo(f"{len(comparison.layers)} layers differ, {len(comparison.same)} are the same")


def certify(
    file: Annotated[str, typer.Argument(help="A checkpoint: a path or an s3:// address; it is updated.")],
    model_file: ModelFile = None,
    model_class: Annotated[str, typer.Option(help="The class in --model-file.")] = "",
) -> None:
    """Measure how exact a checkpoint's logits are against float64; a complete one keeps the table in its metadata."""
    from simplenet.checkpoint.certify import certify as measure
    from simplenet.model_file import load_network
    from simplenet.storage import is_remote, local_copy, upload

    network = load_network(model_file, model_class) if model_file else None
    with local_copy(file) as path:
        certificate = measure(path, network)
        if is_remote(file) and not certificate.notes:
            upload(path, file)
    for note in certificate.notes:
        typer.echo(note)
    console.print(tables.of_certificate(certificate))
    if certificate.notes:
        typer.echo(
            f"the table is not in {file}, which was not saved whole; make a complete checkpoint of it with repair"
        )


def repair(
    source: Annotated[str, typer.Argument(help="Any file with weights: .pt, .safetensors, .mar, …; never changed.")],
    target: Annotated[str, typer.Argument(help="The checkpoint to write: .pt or .safetensors.")],
    model_config: ModelConfigText = None,
    key: Key = None,
) -> None:
    """Turn any file with weights into a complete checkpoint, or convert it."""
    from simplenet.checkpoint.adopt import Given
    from simplenet.checkpoint.repair import write_adopted
    from simplenet.storage import local_copy, local_output

    given = Given(key=key, model_config=parse_config(model_config))
    with local_copy(source) as path, local_output(target) as output:
        repairs = write_adopted(path, output, given)
    for line in repairs:
        typer.echo(line)
    typer.echo(f"wrote {target}" + ("" if repairs else ": nothing to repair"))
