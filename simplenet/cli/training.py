"""The verb that trains."""

import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from simplenet.cli.options import parse_sizes
from simplenet.cli.progress import train_with_progress
from simplenet.errors import ConfigError
from simplenet.paths import resource
from simplenet.training.checkpoints import KEEP, SavePlan
from simplenet.training.hyperparameters import Hyperparameters

SAMPLE_CHECKPOINT = "models/simplenet.pt"
REMOTE_RUNS = Path("models")  # holds the checkpoints of runs whose output is remote


def train(
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of MNIST-format IDX files, plain or gzipped; the bundled digits by default."),
    ] = None,
    output: Annotated[
        str, typer.Option(help="The checkpoint to write: a path or an s3:// address.")
    ] = SAMPLE_CHECKPOINT,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help=f"In all; {Hyperparameters.epochs}, or what a resumed run was planned for."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = Hyperparameters.batch_size,
    hidden_size: Annotated[int, typer.Option(min=1)] = Hyperparameters.hidden_size,
    hidden_sizes: Annotated[str, typer.Option(help="Of each hidden layer instead, such as 128,64.")] = "",
    seed: Annotated[int, typer.Option(help="The same seed gives the same weights.")] = Hyperparameters.seed,
    classes: Annotated[str, typer.Option(help="Label names, separated by commas; 0, 1, 2 … by default.")] = "",
    relabel: Annotated[str, typer.Option(help="A new label for each class, such as even,odd,even,odd,…")] = "",
    save_every: Annotated[
        int | None,
        typer.Option(min=1, help="Every N epochs save what --resume needs, in a folder named after --output."),
    ] = None,
    keep: Annotated[int, typer.Option(min=1, help="Keep the last K of these checkpoints and the best.")] = KEEP,
    resume: Annotated[str | None, typer.Option(help="Continue from this checkpoint or .mar.")] = None,
    source: Annotated[str | None, typer.Option("--from", help="Start from this network's backbone.")] = None,
    freeze_backbone: Annotated[bool, typer.Option("--freeze-backbone", help="Train only the head.")] = False,
) -> None:
    """Train SimpleNet on an IDX folder and save a checkpoint for serving."""
    from simplenet.storage import local_copy, local_output
    from simplenet.training import run as runs
    from simplenet.training.data import load_data

    if resume and source:
        raise ConfigError("train: expected --resume or --from, found both")
    if Path(output).is_dir():
        raise ConfigError(
            f"{output}: expected a file to write the checkpoint to, found a folder; give another --output"
        )
    options = {"--data": str(data or ""), "--classes": classes, "--relabel": relabel}
    plan = _save_plan(output, save_every, keep, options) if save_every else None
    labelled = load_data(data or resource("data/mnist"), _split(classes), _split(relabel))
    hyperparameters = Hyperparameters(
        epochs or Hyperparameters.epochs, batch_size, hidden_size, seed, parse_sizes(hidden_sizes, "--hidden-sizes")
    )
    if resume:
        with local_copy(resume) as path:
            run = runs.resume(labelled, path, epochs)
    elif source:
        with local_copy(source) as path:
            run = runs.transfer(labelled, path, hyperparameters, freeze_backbone)
    else:
        run = runs.fresh(labelled, hyperparameters)
    with local_output(output) as target, run.checkpoints(plan) if plan else nullcontext() as checkpoints:
        if run.note:
            typer.echo(run.note)
        held_out = train_with_progress(run, checkpoints)
        run.save(target)
    typer.echo(f"held-out accuracy {held_out:.4f} on {len(labelled.test_rows)} rows; saved {output}")
    if source and freeze_backbone:
        random = train_with_progress(runs.random_backbone(labelled, hyperparameters, run.hidden_sizes))
        typer.echo(f"a head on a random frozen backbone: {random:.4f}; gained {held_out - random:+.4f}")


def checkpoint_folder(output: str) -> Path:
    """The folder in which a run saves its checkpoints: named after its output, and always on this machine.

    It is beside a local output, and in `models` for a remote one: a run saves often, and only its result is uploaded.

    Raises:
        ConfigError: the output's name has no suffix to tell the file from the folder.

    Example:
        >>> print(checkpoint_folder("runs/digits.pt"), checkpoint_folder("s3://bucket/2026/digits.pt"))
        runs/digits models/digits
    """
    from simplenet.storage import is_remote

    path = REMOTE_RUNS / Path(output).name if is_remote(output) else Path(output)
    if not path.suffix:
        raise ConfigError(f"{output}: --save-every: expected a name with an ending, such as {output}.pt")
    return path.with_suffix("")


def _save_plan(output: str, save_every: int, keep: int, options: dict[str, str]) -> SavePlan:
    """The plan, with the command that starts the run again; empty options are left out."""
    options = {**options, "--output": output, "--save-every": str(save_every), "--keep": str(keep)}
    words = [word for option, value in options.items() if value for word in (option, value)]
    return SavePlan(checkpoint_folder(output), save_every, keep, shlex.join(["simplenet", "train", *words]))


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",")] if names else []
