"""The checkpoints that a run saves while it trains: `epoch-0002.pt`, `epoch-0004.pt`, … in one folder.

A run owns its files. Each run has an id; its checkpoints carry the id, and the run keeps it when it is resumed. A run
replaces or deletes a file only after reading its own id in it:

- A new run refuses a folder that holds any `epoch-<number>.pt`, before it trains.
- A resumed run continues among its earlier checkpoints. They count as its own: `keep` prunes them as if the run had
  never stopped. Those of epochs after the one it resumed from stay until the run reaches that epoch and replaces them.
- A resumed run leaves earlier files without an id alone: checkpoints of older versions, and any other file with such a
  name. It refuses a folder where one of them has the name of a later epoch, or where a file has another run's id.
- While a run saves into a folder, a second run is refused there.
"""

import fcntl
import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from simplenet.errors import CheckpointError, ConfigError
from simplenet.text import quoted
from simplenet.training.hyperparameters import TrainingRecord

KEEP = 3  # checkpoints kept by default, besides the most accurate
_NAME = re.compile(r"epoch-([0-9]{4}|[1-9][0-9]{4,})\.pt")  # exactly the names that `SavePlan.path` returns


@dataclass(frozen=True)
class SavePlan:
    """Where and how often a run saves a checkpoint to resume from, and how many of them it keeps.

    Args:
        folder: for the checkpoints of this run alone.
        save_every: epochs between two checkpoints; the last epoch is always saved.
        keep: how many of the last ones to keep, besides the most accurate.
        command: starts the run; an error message extends it to the command that continues the run in the folder.

    Raises:
        ConfigError: `save_every` or `keep` is below 1.
    """

    folder: Path
    save_every: int = 1
    keep: int = KEEP
    command: str = ""

    def __post_init__(self) -> None:
        for name, value in (("save_every", self.save_every), ("keep", self.keep)):
            if value < 1:
                raise ConfigError(f"{name}: expected 1 or more, found {value}")

    def path(self, epoch: int) -> Path:
        """The file of an epoch.

        Example:
            >>> print(SavePlan(Path("models/run")).path(8))
            models/run/epoch-0008.pt
        """
        return self.folder / f"epoch-{epoch:04d}.pt"


@dataclass(frozen=True)
class StoredCheckpoint:
    """A file with a checkpoint's name; the record is empty if the file is something else."""

    path: Path
    epoch: int
    record: TrainingRecord = field(default_factory=TrainingRecord)
    accuracy: float = 0.0  # on the held-out rows, 0..1
    resumable: bool = False  # whether it holds an optimizer's state


class RunCheckpoints:
    """The checkpoints of one run; created by `claimed`.

    Args:
        plan: where, how often, how many.
        run: the id of the run.
        accuracies: of the run's checkpoints that are already in the folder, by epoch.
    """

    def __init__(self, plan: SavePlan, run: str, accuracies: dict[int, float]) -> None:
        self.plan, self.run, self._accuracies = plan, run, accuracies

    def is_due(self, epoch: int, epochs: int) -> bool:
        """Whether to save this epoch, of `epochs` in all."""
        return epoch % self.plan.save_every == 0 or epoch == epochs

    def save(self, epoch: int, write: Callable[[Path], float]) -> None:
        """Save an epoch's checkpoint, then delete those that are not kept.

        Args:
            epoch: its number, from 1.
            write: writes the file and returns the held-out accuracy, 0..1.

        Raises:
            CheckpointError: a file of that name has appeared that this run did not write.
        """
        path = self.plan.path(epoch)
        if os.path.lexists(path) and not self._owns(path):
            raise CheckpointError(
                f"{path}: expected no file or one of this run, found another's that was not here when the run began; "
                f"continue with another --output{self._last_before(epoch)}"
            )
        self._accuracies[epoch] = write(path)
        self._prune(epoch)

    def _prune(self, epoch: int) -> None:
        """Delete the checkpoints up to this epoch, except the last ones and the most accurate."""
        saved = sorted(number for number in self._accuracies if number <= epoch)
        best = max(saved, key=lambda number: self._accuracies[number])
        for number in saved[: -self.plan.keep]:
            if number != best:
                path = self.plan.path(number)
                if self._owns(path):
                    path.unlink(missing_ok=True)
                del self._accuracies[number]

    def _last_before(self, epoch: int) -> str:
        saved = [number for number in self._accuracies if number < epoch]
        return f" and --resume {self.plan.path(max(saved))}" if saved else ""

    def _owns(self, path: Path) -> bool:
        return _read(path).record.run == self.run


@contextmanager
def claimed(plan: SavePlan, run: str, epoch: int, data_hash: str) -> Iterator[RunCheckpoints]:
    """Reserve the folder for a run until the body ends.

    Args:
        plan: where, how often, how many.
        run: the id of the run.
        epoch: the last trained epoch: 0 for a new run.
        data_hash: of the run's data, to tell whether it could continue a run that is in the folder.

    Raises:
        CheckpointError: the folder holds checkpoints of another run, or another run is saving there.
    """
    with _locked(plan.folder):
        files = _checkpoints_in(plan.folder)
        if foreign := _foreign(files, run, epoch):
            remedy = "" if epoch else _remedy(plan, files, data_hash)
            raise CheckpointError(
                f"{plan.folder}: expected no checkpoints of another run, found "
                f"{quoted(file.path.name for file in foreign)} of {_owners(foreign)}; choose another --output{remedy}"
            )
        yield RunCheckpoints(plan, run, {file.epoch: file.accuracy for file in files if file.record.run == run})


def _foreign(files: Sequence[StoredCheckpoint], run: str, epoch: int) -> list[StoredCheckpoint]:
    """The files that bar a run trained up to `epoch` from their folder."""
    return [file for file in files if file.record.run != run and (file.record.run or file.epoch > epoch)]


def _owners(files: Sequence[StoredCheckpoint]) -> str:
    runs = {file.record.run for file in files}
    named = [f"run {run[:8]}" for run in sorted(runs) if run]
    return " and ".join(named + ["an unknown run"] * ("" in runs))


def _remedy(plan: SavePlan, files: Sequence[StoredCheckpoint], data_hash: str) -> str:
    """The command that continues the run found in the folder, if it can be continued there with this data."""
    last = max(files, key=lambda file: file.epoch)
    same_data = last.record.data_hash in ("", data_hash)
    if not (plan.command and last.resumable and same_data) or _foreign(files, last.record.run, last.epoch):
        return ""
    further = f" --epochs {2 * last.epoch}" if last.epoch >= last.record.epochs else ""
    return f", or continue that run: {plan.command} --resume {shlex.quote(str(last.path))}{further}"


def _checkpoints_in(folder: Path) -> list[StoredCheckpoint]:
    files = [_read(path) for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(files, key=lambda file: file.epoch)


def _read(path: Path) -> StoredCheckpoint:
    """The record and accuracy in a file `epoch-<number>.pt`; its weights are not read."""
    from simplenet.checkpoint.file import read_checkpoint  # needs torch, which the command's --help must not import
    from simplenet.checkpoint.keys import METADATA, OPTIMIZER_STATE_DICT

    epoch = int(path.stem.removeprefix("epoch-"))
    try:
        checkpoint = read_checkpoint(path, mapped=True)
    except (CheckpointError, OSError):  # not a checkpoint, or not readable: not this run's in either case
        return StoredCheckpoint(path, epoch)
    metadata = checkpoint.get(METADATA)
    accuracy = metadata.get("accuracy") if isinstance(metadata, dict) else None
    return StoredCheckpoint(
        path,
        epoch,
        TrainingRecord.of(metadata),
        accuracy if isinstance(accuracy, float) else 0.0,
        OPTIMIZER_STATE_DICT in checkpoint,
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Create the folder, and lock it until the body ends or the process dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise CheckpointError(
            f"{folder}: expected a folder for checkpoints, found a file; choose another --output"
        ) from error
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CheckpointError(
                f"{folder}: another run is saving its checkpoints here; choose another --output"
            ) from error
        except OSError:  # a file system without locks: `save` still does not replace another run's file
            pass
        yield
    finally:
        os.close(descriptor)
