"""A progress bar over a training run."""

from typing import TYPE_CHECKING, Any

from simplenet.cli.options import console

if TYPE_CHECKING:
    from simplenet.training.run import Run


def train_with_progress(run: "Run", **saving: Any) -> float:
    """Train with a progress bar; the held-out accuracy comes back."""
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
            **saving,
        )
