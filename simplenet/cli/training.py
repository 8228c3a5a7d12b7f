"""The verb that trains."""

from pathlib import Path
from typing import Annotated

import typer

from simplenet.cli.progress import train_with_progress
from simplenet.errors import ConfigError
from simplenet.paths import resource

SAMPLE_CHECKPOINT = "models/simplenet.pt"


def train(
    data: Annotated[Path, typer.Option(help="Folder of MNIST-format IDX files, plain or gzipped.")] = Path(),
    output: Annotated[
        str, typer.Option(help="The checkpoint to write: a path or an s3:// address.")
    ] = SAMPLE_CHECKPOINT,
    epochs: Annotated[int | None, typer.Option(min=1, help="In all; 10, or what a resumed run was asked for.")] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    hidden_size: Annotated[int, typer.Option(min=1)] = 256,
    seed: Annotated[int, typer.Option(help="The same seed gives the same weights.")] = 0,
    classes: Annotated[str, typer.Option(help="Label names, separated by commas; 0, 1, 2 … by default.")] = "",
    relabel: Annotated[str, typer.Option(help="A new label for each class, such as even,odd,even,odd,…")] = "",
    save_every: Annotated[int | None, typer.Option(min=1, help="Save all that --resume needs every N epochs.")] = None,
    keep: Annotated[int, typer.Option(min=1, help="Of those, keep the last K and the best.")] = 3,
    resume: Annotated[str | None, typer.Option(help="Go on from this checkpoint or .mar.")] = None,
    source: Annotated[str | None, typer.Option("--from", help="Start from this network's backbone.")] = None,
    freeze_backbone: Annotated[bool, typer.Option("--freeze-backbone", help="Train the head alone.")] = False,
) -> None:
    """Train SimpleNet on an IDX folder and save a checkpoint for serving."""
    from simplenet.storage import local_copy, local_output
    from simplenet.training import run as runs

    if resume and source:
        raise ConfigError("train: expected --resume or --from, found both")
    folder = resource("data/mnist") if data == Path() else data
    given = runs.load_data(folder, _split(classes), _split(relabel))
    settings = runs.Settings(epochs or runs.Settings.epochs, batch_size, hidden_size, seed)
    if resume:
        with local_copy(resume) as path:
            run = runs.resume(given, path, epochs)
    elif source:
        with local_copy(source) as path:
            run = runs.transfer(given, path, settings, freeze_backbone)
    else:
        run = runs.fresh(given, settings)
    if run.note:
        typer.echo(run.note)
    with local_output(output) as target:
        checkpoints = (target if target == Path(output) else Path("models") / target.name).with_suffix("")
        saving = {"folder": checkpoints, "save_every": save_every, "keep": keep} if save_every else {}
        held_out = train_with_progress(run, **saving)
        run.save(target)
    typer.echo(f"held-out accuracy {held_out:.4f} on {len(given.test_rows)} rows; saved {output}")
    if source and freeze_backbone:
        other = train_with_progress(runs.random_backbone(given, settings, run.hidden_size))
        typer.echo(f"a head on a random frozen backbone: {other:.4f}; gained {held_out - other:+.4f}")


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",")] if names else []
