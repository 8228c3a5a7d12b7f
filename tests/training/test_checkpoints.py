"""A run owns its checkpoints: it keeps and deletes its own, and touches nobody else's."""

import errno
import fcntl
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from simplenet.checkpoint.file import read_checkpoint, write_checkpoint
from simplenet.errors import CheckpointError, ConfigError
from simplenet.training import run as runs
from simplenet.training.checkpoints import SavePlan
from simplenet.training.data import LabelledData
from simplenet.training.hyperparameters import Hyperparameters, TrainingRecord


def make_data(seed: int = 0) -> LabelledData:
    rows = torch.randn(40, 5, generator=torch.Generator().manual_seed(seed))
    labels = (rows[:, 0] > 0).long()
    return LabelledData("signs", rows[:30], labels[:30], rows[30:], labels[30:], ("negative", "positive"))


DATA = make_data()


def fresh(epochs: int = 6, data: LabelledData = DATA) -> runs.Run:
    return runs.fresh(data, Hyperparameters(epochs=epochs, hidden_size=4))


def train(run: runs.Run, folder: Path, keep: int = 9, until: int | None = None, command: str = "") -> runs.Run:
    """Train and save every epoch; up to epoch `until` as if the run was killed then."""
    with run.checkpoints(SavePlan(folder, keep=keep, command=command)) as checkpoints:
        while run.trainer.epoch < (until or run.trainer.epochs):
            run.trainer.run_epoch()
            checkpoints.save(run.trainer.epoch, run.save_for_resuming)
    return run


def with_accuracies(run: runs.Run, accuracies: dict[int, float]) -> runs.Run:
    run.accuracy = lambda: accuracies.get(run.trainer.epoch, 0.0)  # type: ignore[method-assign]
    return run


def epochs_in(folder: Path) -> set[int]:
    return {int(file.stem.removeprefix("epoch-")) for file in folder.glob("epoch-*.pt")}


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def run_of(file: Path) -> str:
    return TrainingRecord.of(read_checkpoint(file)["metadata"]).run


def without_id(folder: Path) -> None:
    """Make a folder's checkpoints those of a version in which runs had no id."""
    for file in folder.glob("epoch-*.pt"):
        checkpoint = read_checkpoint(file)
        del checkpoint["metadata"]["training"]["run"]
        write_checkpoint(checkpoint, file)


def refusal(run: runs.Run, folder: Path, command: str = "") -> str:
    """The refusal of a folder, which is one line and changes nothing."""
    before = contents(folder)
    with pytest.raises(CheckpointError) as caught:
        train(run, folder, keep=1, command=command)
    assert contents(folder) == before
    (line,) = str(caught.value).splitlines()
    return line


def test_every_checkpoint_carries_the_id_of_its_run(tmp_path):
    run = train(fresh(epochs=2), tmp_path)
    assert {run_of(file) for file in tmp_path.iterdir()} == {run.id}
    assert fresh().id != run.id


def test_a_new_run_is_refused_a_folder_with_another_runs_checkpoints(tmp_path):
    first = train(fresh(epochs=3), tmp_path)
    second = fresh()
    line = refusal(second, tmp_path)
    assert line == (
        f"{tmp_path}: expected no checkpoints of another run, found 'epoch-0001.pt', 'epoch-0002.pt', 'epoch-0003.pt' "
        f"of run {first.id[:8]}; choose another --output"
    )
    assert second.trainer.epoch == 0


def test_the_refusal_offers_to_continue_a_run_that_was_killed(tmp_path):
    train(fresh(epochs=6), tmp_path, until=4)
    line = refusal(fresh(), tmp_path, "simplenet train --output x.pt")
    remedy = f"simplenet train --output x.pt --resume {tmp_path}/epoch-0004.pt"
    assert line.endswith(f"; choose another --output, or continue that run: {remedy}")


def test_the_refusal_offers_more_epochs_to_a_run_that_ended(tmp_path):
    train(fresh(epochs=3), tmp_path)
    assert refusal(fresh(), tmp_path, "simplenet train").endswith(f"--resume {tmp_path}/epoch-0003.pt --epochs 6")


def test_the_refusal_offers_no_command_that_would_be_refused_too(tmp_path):
    train(fresh(epochs=3), tmp_path)
    assert refusal(fresh(data=make_data(seed=1)), tmp_path, "simplenet train").endswith("; choose another --output")
    (tmp_path / "epoch-0009.pt").write_text("no checkpoint")
    assert refusal(fresh(), tmp_path, "simplenet train").endswith("; choose another --output")


def test_a_resumed_run_keeps_its_id_and_prunes_its_earlier_files(tmp_path):
    killed = train(with_accuracies(fresh(), {2: 0.9, 4: 0.8}), tmp_path, until=4)
    resumed = with_accuracies(runs.resume(DATA, tmp_path / "epoch-0004.pt"), {5: 0.7, 6: 0.6})
    assert resumed.id == killed.id
    train(resumed, tmp_path, keep=2)
    assert epochs_in(tmp_path) == {2, 5, 6}


def test_what_lies_after_the_resumed_epoch_stays_until_the_run_reaches_it(tmp_path):
    run = train(with_accuracies(fresh(), {1: 0.2, 2: 0.1, 3: 0.3, 6: 0.9}), tmp_path)
    later = {name: file for name, file in contents(tmp_path).items() if name > "epoch-0004.pt"}
    resumed = with_accuracies(runs.resume(DATA, tmp_path / "epoch-0002.pt"), {3: 0.1, 4: 0.1})
    train(resumed, tmp_path, keep=1, until=4)
    assert epochs_in(tmp_path) == {1, 4, 5, 6}  # 1 is the most accurate of those that this run has reached
    assert later.items() <= contents(tmp_path).items()
    assert {run_of(file) for file in tmp_path.iterdir()} == {run.id}


def test_a_run_is_resumed_in_another_folder_too(tmp_path):
    train(fresh(), tmp_path / "first", until=3)
    before = contents(tmp_path / "first")
    train(runs.resume(DATA, tmp_path / "first" / "epoch-0003.pt"), tmp_path / "second", keep=2)
    assert contents(tmp_path / "first") == before
    assert {5, 6} <= epochs_in(tmp_path / "second")


def test_a_resumed_run_is_refused_another_runs_folder(tmp_path):
    train(fresh(), tmp_path / "a", until=5)
    other = train(fresh(), tmp_path / "b", until=2)
    line = refusal(runs.resume(DATA, tmp_path / "a" / "epoch-0005.pt"), tmp_path / "b", "simplenet train")
    assert f"of run {other.id[:8]}; choose another --output" in line
    assert "--resume" not in line  # it was resuming already


def test_weights_alone_and_a_transfer_start_a_run_of_their_own(tmp_path):
    run = train(fresh(epochs=2), tmp_path / "run")
    run.save(tmp_path / "run.pt")
    assert run_of(tmp_path / "run.pt") == run.id
    again = runs.resume(DATA, tmp_path / "run.pt")
    transferred = runs.transfer(DATA, tmp_path / "run" / "epoch-0002.pt", Hyperparameters(epochs=1), freeze=True)
    for other in (again, transferred):
        assert other.id != run.id
        assert f"of run {run.id[:8]}" in refusal(other, tmp_path / "run")


def test_files_from_before_runs_had_an_id_are_refused_to_a_new_run(tmp_path):
    train(fresh(), tmp_path, until=2)
    without_id(tmp_path)
    line = refusal(fresh(), tmp_path, "simplenet train")
    assert "found 'epoch-0001.pt', 'epoch-0002.pt' of an unknown run" in line
    assert line.endswith(f"continue that run: simplenet train --resume {tmp_path}/epoch-0002.pt")


def test_a_run_resumed_from_a_file_without_id_prunes_only_what_it_wrote(tmp_path):
    train(fresh(), tmp_path, until=3)
    without_id(tmp_path)
    before = contents(tmp_path)
    resumed = train(runs.resume(DATA, tmp_path / "epoch-0003.pt"), tmp_path, keep=1, until=5)
    assert before.items() <= contents(tmp_path).items()
    train(runs.resume(DATA, tmp_path / "epoch-0005.pt"), tmp_path, keep=1)
    assert before.items() <= contents(tmp_path).items()
    assert run_of(tmp_path / "epoch-0006.pt") == resumed.id


def test_a_file_without_id_in_the_way_of_a_resumed_run_is_refused(tmp_path):
    train(fresh(), tmp_path, until=5)
    without_id(tmp_path)
    line = refusal(runs.resume(DATA, tmp_path / "epoch-0003.pt"), tmp_path)
    assert "found 'epoch-0004.pt', 'epoch-0005.pt' of an unknown run" in line


class Unsafe:
    def __reduce__(self):
        return print, ("run",)


@pytest.fixture(params=["text", "empty", "pickle", "list", "metadata", "folder", "link", "secret"])
def foreign(request) -> Callable[[Path], None]:
    """Put something at a path that is no checkpoint of ours."""

    def put(path: Path) -> None:
        match request.param:
            case "text":
                path.write_text("mine")
            case "empty":
                path.touch()
            case "pickle":
                path.write_bytes(pickle.dumps(Unsafe()))
            case "list":
                torch.save([1, 2], path)
            case "metadata":
                torch.save({"metadata": {"accuracy": "high", "training": {"run": 7, "epochs": "many"}}}, path)
            case "folder":
                path.mkdir()
            case "link":
                path.symlink_to("nowhere")
            case "secret":
                path.write_text("mine")
                path.chmod(0)

    return put


def test_whatever_bears_the_name_keeps_a_new_run_out(tmp_path, foreign):
    foreign(tmp_path / "epoch-0002.pt")
    with pytest.raises(CheckpointError, match=r"found 'epoch-0002.pt' of an unknown run; choose another --output$"):
        train(fresh(), tmp_path, command="simplenet train")


def test_whatever_bears_the_name_survives_a_resumed_run(tmp_path, foreign):
    train(fresh(), tmp_path, until=4)
    (tmp_path / "epoch-0002.pt").unlink()
    foreign(tmp_path / "epoch-0002.pt")
    train(runs.resume(DATA, tmp_path / "epoch-0004.pt"), tmp_path, keep=1)
    assert (tmp_path / "epoch-0002.pt").is_symlink() or (tmp_path / "epoch-0002.pt").exists()
    assert epochs_in(tmp_path) <= {1, 2, 3, 4, 6}
    assert len(epochs_in(tmp_path) - {2}) <= 2  # the last and the most accurate


def test_what_appears_under_the_name_during_a_run_is_not_replaced(tmp_path, foreign):
    run = train(fresh(), tmp_path, until=1)
    with run.checkpoints(SavePlan(tmp_path)) as checkpoints:
        foreign(tmp_path / "epoch-0002.pt")
        before = (tmp_path / "epoch-0002.pt").lstat()
        with pytest.raises(CheckpointError, match=r"another's .* --output and --resume .*epoch-0001.pt$"):
            run.train(checkpoints=checkpoints)
    assert run_of(tmp_path / "epoch-0001.pt") == run.id
    after = (tmp_path / "epoch-0002.pt").lstat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    with pytest.raises(CheckpointError, match=f"of run {run.id[:8]} and an unknown run; choose"):
        train(fresh(), tmp_path)


def test_a_file_that_another_run_put_in_place_of_ones_own_is_not_pruned(tmp_path):
    other = train(fresh(), tmp_path / "other", until=1)
    run = with_accuracies(fresh(), {4: 1.0})
    with run.checkpoints(SavePlan(tmp_path / "run", keep=1)) as checkpoints:
        run.trainer.run_epoch()
        checkpoints.save(1, run.save_for_resuming)
        (tmp_path / "other" / "epoch-0001.pt").rename(tmp_path / "run" / "epoch-0001.pt")
        run.train(checkpoints=checkpoints)
    assert run_of(tmp_path / "run" / "epoch-0001.pt") == other.id


def test_a_second_run_is_refused_while_one_saves_into_the_folder(tmp_path):
    run = fresh()
    with run.checkpoints(SavePlan(tmp_path)):
        assert "another run is saving its checkpoints here; choose another --output" in refusal(fresh(), tmp_path)
    train(fresh(), tmp_path)


def test_two_runs_at_once_lose_nothing_where_folders_cannot_be_locked(tmp_path, monkeypatch):
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    first, second = fresh(), fresh()
    with first.checkpoints(SavePlan(tmp_path)) as ones, second.checkpoints(SavePlan(tmp_path)) as others:
        first.trainer.run_epoch()
        ones.save(1, first.save_for_resuming)
        with pytest.raises(CheckpointError, match="found another's that was not here when the run began"):
            second.train(checkpoints=others)
        first.train(checkpoints=ones)
    assert {run_of(file) for file in tmp_path.iterdir()} == {first.id}


def test_files_of_other_names_neither_keep_a_run_out_nor_are_pruned(tmp_path):
    names = ("notes.txt", "epoch-1.pt", "epoch-best.pt", "epoch-00001.pt", ".epoch-0001.pt.0.tmp", "epoch-0001.pt.bak")
    for name in names:
        (tmp_path / name).write_text("mine")
    train(fresh(), tmp_path, keep=1)
    assert all((tmp_path / name).read_text() == "mine" for name in names)


def test_a_checkpoint_that_the_user_deleted_is_not_missed(tmp_path):
    run = train(fresh(), tmp_path, until=2)
    with run.checkpoints(SavePlan(tmp_path, keep=1)) as checkpoints:
        (tmp_path / "epoch-0001.pt").unlink()
        (tmp_path / "epoch-0002.pt").unlink()
        run.train(checkpoints=checkpoints)
    assert 6 in epochs_in(tmp_path)


def test_epochs_are_ordered_by_number_beyond_four_digits(tmp_path):
    run = with_accuracies(fresh(), {})
    with run.checkpoints(SavePlan(tmp_path, keep=1)) as checkpoints:
        for epoch in (9998, 9999, 10000, 10001):
            checkpoints.save(epoch, run.save_for_resuming)
    assert epochs_in(tmp_path) == {9998, 10001}  # of equal ones the first is the most accurate
    with run.checkpoints(SavePlan(tmp_path, keep=1)) as checkpoints:
        checkpoints.save(10002, run.save_for_resuming)
    assert epochs_in(tmp_path) == {9998, 10002}


@pytest.mark.parametrize("wrong", [{"save_every": 0}, {"keep": 0}, {"keep": -1}])
def test_a_plan_that_saves_or_keeps_nothing_is_refused(tmp_path, wrong):
    with pytest.raises(ConfigError, match="expected 1 or more, found"):
        SavePlan(tmp_path, **wrong)
