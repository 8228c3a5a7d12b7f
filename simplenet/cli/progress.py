"""A progress bar over a training run."""

from typing import TYPE_CHECKING

from simplenet.cli.options import console

if TYPE_CHECKING:
    from simplenet.training.checkpoints import RunCheckpoints
    from simplenet.training.run import Run


def train_with_progress(run: "Run", checkpoints: "RunCheckpoints | None" = None) -> float:
    """Train with a progress bar, as `Run.train` does, and return the held-out accuracy, 0..1."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    trainer = run.trainer
    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, console=console) as bar:
        total = (trainer.epochs - trainer.epoch) * trainer.batches
        task = bar.add_task("train", total=total, epoch=f"{trainer.epoch}/{trainer.epochs}", state="")
        return run.train(
            lambda now: bar.update(
                task,
                advance=1,
                epoch=f"{now.epoch}/{now.epochs}",
                state=f"loss {now.loss:.4f}  accuracy {now.accuracy:.4f}",
            ),
            checkpoints,
        )
