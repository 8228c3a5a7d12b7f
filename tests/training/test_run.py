"""Runs that start fresh, go on after a kill, or start from another network."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support import COMMAND_TIMEOUT_S, simplenet

from simplenet.archive import create_archive
from simplenet.checkpoint.file import read_checkpoint
from simplenet.errors import CheckpointError, DataError
from simplenet.inspection import describe
from simplenet.paths import resource
from simplenet.training import run as runs
from simplenet.training.checkpoints import SavePlan
from simplenet.training.data import LabelledData, load_data, load_split
from simplenet.training.hyperparameters import Hyperparameters

HYPERPARAMETERS = Hyperparameters(epochs=4, hidden_size=16)
PARITY = ["even", "odd"] * 5


@pytest.fixture(scope="module")
def data() -> LabelledData:
    """Some of the bundled digits."""
    rows, labels = load_split(resource("data/mnist"), "train")
    test_rows, test_labels = load_split(resource("data/mnist"), "test")
    names = tuple(str(digit) for digit in range(10))
    return LabelledData("mnist", rows[:2000], labels[:2000], test_rows, test_labels, names)


def train(run: runs.Run, plan: SavePlan) -> None:
    with run.checkpoints(plan) as checkpoints:
        run.train(checkpoints=checkpoints)


def weights(run: runs.Run) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in run.trainer.model.parameters()])


def test_a_resumed_run_gives_the_very_weights_of_one_that_never_stopped(data, tmp_path):
    whole = runs.fresh(data, HYPERPARAMETERS)
    whole.train()
    stopped = runs.fresh(data, HYPERPARAMETERS)
    stopped.trainer.run_epoch()
    stopped.trainer.run_epoch()
    stopped.save_for_resuming(tmp_path / "two.pt")
    torch.manual_seed(99)  # another process has another random state
    resumed = runs.resume(data, tmp_path / "two.pt")
    assert resumed.trainer.epoch == 2
    resumed.train()
    assert torch.equal(weights(resumed), weights(whole))
    assert resumed.trainer.loss == whole.trainer.loss


def test_a_run_killed_with_sigkill_goes_on_to_the_same_weights(tmp_path):
    """The real command, killed when its fifth of twenty epochs is on disk."""
    training = ["train", "--hidden-size", "32", "--epochs", "20"]
    whole = simplenet(*training, "--output", "whole.pt", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    command = [str(Path(sys.executable).with_name("simplenet")), *training]
    killed = subprocess.Popen(
        [*command, "--output", "killed.pt", "--save-every", "1", "--keep", "20"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + COMMAND_TIMEOUT_S
    while not (tmp_path / "killed" / "epoch-0005.pt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed.pt").exists()
    last = "killed/epoch-0005.pt"
    completed = simplenet(*training, "--resume", last, "--output", "killed.pt", cwd=tmp_path)
    assert completed.returncode == 0, completed.stderr
    first, second = (read_checkpoint(tmp_path / name) for name in ("whole.pt", "killed.pt"))
    assert first["metadata"]["content_hash"] == second["metadata"]["content_hash"]


def test_the_last_checkpoints_and_the_best_are_kept(data, tmp_path):
    run = runs.fresh(data, Hyperparameters(epochs=6, hidden_size=8))
    accuracies = {}
    original = run.accuracy

    def noted() -> float:
        accuracies[run.trainer.epoch] = original()
        return accuracies[run.trainer.epoch]

    run.accuracy = noted  # type: ignore[method-assign]
    train(run, SavePlan(tmp_path, save_every=1, keep=2))
    kept = {int(file.stem.removeprefix("epoch-")) for file in tmp_path.glob("epoch-*.pt")}
    best = max(accuracies, key=lambda epoch: accuracies[epoch])
    assert kept == {5, 6} | {best}


def test_save_every_skips_epochs_but_not_the_last(data, tmp_path):
    train(runs.fresh(data, Hyperparameters(epochs=5, hidden_size=8)), SavePlan(tmp_path, save_every=2, keep=9))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["epoch-0002.pt", "epoch-0004.pt", "epoch-0005.pt"]


def test_more_epochs_than_planned_train_on_a_new_cycle(data, tmp_path):
    run = runs.fresh(data, HYPERPARAMETERS)
    train(run, SavePlan(tmp_path))
    longer = runs.resume(data, tmp_path / "epoch-0004.pt", epochs=6)
    longer.train()
    assert longer.trainer.epoch == 6
    with pytest.raises(CheckpointError, match="expected more than the 4 done, found 3"):
        runs.resume(data, tmp_path / "epoch-0004.pt", epochs=3)


def test_an_archive_is_a_checkpoint(data, tmp_path):
    run = runs.fresh(data, HYPERPARAMETERS)
    run.trainer.run_epoch()
    run.save_for_resuming(tmp_path / "one.pt")
    archive = create_archive(tmp_path / "one.pt", export_path=tmp_path)
    resumed = runs.resume(data, archive)
    assert resumed.trainer.epoch == 1
    resumed.train()
    run.train()
    assert torch.equal(weights(resumed), weights(run))


def test_weights_alone_start_a_new_run_and_are_its_parent(data, tmp_path):
    run = runs.fresh(data, HYPERPARAMETERS)
    run.train()
    run.save(tmp_path / "served.pt")
    resumed = runs.resume(data, tmp_path / "served.pt", epochs=1)
    assert "no optimizer state" in resumed.note
    assert resumed.trainer.epoch == 0
    assert torch.equal(weights(resumed), weights(run))
    resumed.train()
    resumed.save(tmp_path / "child.pt")
    parent, child = (read_checkpoint(tmp_path / name)["metadata"] for name in ("served.pt", "child.pt"))
    assert child["parent_hash"] == parent["content_hash"]


def test_other_data_is_refused(data, tmp_path):
    run = runs.fresh(data, HYPERPARAMETERS)
    run.trainer.run_epoch()
    run.save_for_resuming(tmp_path / "one.pt")
    other = LabelledData("other", data.rows[:100], data.labels[:100], data.test_rows, data.test_labels, data.classes)
    with pytest.raises(CheckpointError, match="other data"):
        runs.resume(other, tmp_path / "one.pt")


def test_a_frozen_backbone_from_trained_weights_beats_a_random_one(data, tmp_path):
    run = runs.fresh(data, Hyperparameters(epochs=8, hidden_size=64))
    run.train()
    run.save(tmp_path / "digits.pt")
    backbone = run.trainer.model.fc1.weight.detach().clone()
    parity = load_data(resource("data/mnist"), relabel=PARITY)
    assert parity.classes == ("even", "odd")
    hyperparameters = Hyperparameters(epochs=2)
    transferred = runs.transfer(parity, tmp_path / "digits.pt", hyperparameters, freeze=True)
    assert transferred.hidden_size == 64
    gained = transferred.train() - runs.random_backbone(parity, hyperparameters, 64).train()
    assert gained > 0.02
    assert torch.equal(transferred.trainer.model.fc1.weight, backbone)


def test_a_deeper_run_is_saved_resumed_and_transferred_with_all_its_layers(data, tmp_path):
    whole = runs.fresh(data, Hyperparameters(epochs=2, hidden_sizes=(12, 9)))
    assert (whole.hidden_sizes, whole.hidden_size) == ((12, 9), 12)
    whole.trainer.run_epoch()
    whole.save_for_resuming(tmp_path / "one.pt")
    whole.train()
    resumed = runs.resume(data, tmp_path / "one.pt")
    resumed.train()
    assert torch.equal(weights(resumed), weights(whole))
    assert describe(tmp_path / "one.pt").model_config == {"input_size": 784, "hidden_sizes": [12, 9], "num_classes": 10}
    parity = load_data(resource("data/mnist"), relabel=PARITY)
    transferred = runs.transfer(parity, tmp_path / "one.pt", HYPERPARAMETERS, freeze=True)
    assert transferred.hidden_sizes == (12, 9)
    trainable = [name for name, parameter in transferred.trainer.model.named_parameters() if parameter.requires_grad]
    assert trainable == ["fc3.weight", "fc3.bias"]
    assert runs.random_backbone(parity, HYPERPARAMETERS, (12, 9)).hidden_sizes == (12, 9)


def test_labels_are_renamed_and_merged(tmp_path):
    folder = resource("data/mnist")
    plain, merged = load_data(folder), load_data(folder, relabel=PARITY)
    assert torch.equal(merged.labels, plain.labels % 2)
    with pytest.raises(DataError, match="expected a label for each of the 10 classes"):
        load_data(folder, classes=["a", "b"])


def test_the_checkpoints_labels_are_kept_when_none_are_given(data, tmp_path):
    named = LabelledData("mnist", data.rows, data.labels, data.test_rows, data.test_labels, tuple("abcdefghij"))
    run = runs.fresh(named, HYPERPARAMETERS)
    run.trainer.run_epoch()
    run.save_for_resuming(tmp_path / "one.pt")
    assert runs.resume(data, tmp_path / "one.pt").data.classes == tuple("abcdefghij")
