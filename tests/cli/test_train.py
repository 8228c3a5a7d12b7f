"""`simplenet train`, run as a user runs it: what a second run does to the first, and how wrong options are refused."""

import shlex
from pathlib import Path

import pytest
from support import simplenet

from simplenet.checkpoint.file import read_checkpoint

SMALL = ("--hidden-size", "8", "--batch-size", "500")  # an epoch in a fraction of a second


SAVING = ("train", *SMALL, "--output", "run.pt", "--save-every", "1", "--keep", "2")


def train(folder: Path, *options: str) -> str:
    """Train in the folder; what the command printed comes back."""
    completed = simplenet("train", *SMALL, *options, cwd=folder)
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def refusal(folder: Path, *arguments: str) -> str:
    """The one line with which the command refuses its options."""
    completed = simplenet(*arguments, cwd=folder)
    assert completed.returncode == 1, completed.stdout + completed.stderr
    (line,) = completed.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_second_run_into_the_same_folder_is_refused_and_loses_nothing_of_the_first(tmp_path):
    options = ("--epochs", "4", "--output", "run.pt", "--save-every", "1", "--keep", "2")
    train(tmp_path, *options)
    checkpoints, output = contents(tmp_path / "run"), (tmp_path / "run.pt").read_bytes()
    assert {"epoch-0003.pt", "epoch-0004.pt"} <= set(checkpoints)
    line = refusal(tmp_path, "train", *SMALL, *options)
    assert "error: run: expected no checkpoints of another run, found " in line
    assert "'epoch-0004.pt' of run " in line
    assert contents(tmp_path / "run") == checkpoints
    assert (tmp_path / "run.pt").read_bytes() == output
    train(tmp_path, *options, "--output", "other.pt")
    assert {"epoch-0003.pt", "epoch-0004.pt"} <= set(contents(tmp_path / "other"))
    assert contents(tmp_path / "run") == checkpoints


def test_the_remedy_works_as_pasted(tmp_path):
    train(tmp_path, *SAVING[1:], "--epochs", "2")
    remedy = refusal(tmp_path, *SAVING).rpartition("continue that run: ")[2]
    program, *arguments = shlex.split(remedy)
    assert program == "simplenet"
    completed = simplenet(*arguments, cwd=tmp_path)
    assert completed.returncode == 0, completed.stderr
    assert "resuming run/epoch-0002.pt after epoch 2 of 4" in completed.stdout
    assert read_checkpoint(tmp_path / "run" / "epoch-0004.pt")["epoch"] == 4


def test_a_run_that_saves_no_checkpoints_may_be_repeated(tmp_path):
    train(tmp_path, *SAVING[1:], "--epochs", "1")
    before = contents(tmp_path / "run")
    train(tmp_path, "--epochs", "1", "--output", "run.pt")
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resume", "a.pt", "--from", "b.pt"], "train: expected --resume or --from, found both"),
        (["--resume", "a.pt"], "a.pt: no such file"),
        (["--from", "a.pt"], "a.pt: no such file"),
        (["--data", "nowhere"], "nowhere: expected train-images-idx3-ubyte"),
        (["--classes", "a,b"], "classes: expected a label for each of the 10 classes"),
        (["--relabel", "a,b"], "classes: expected a label for each of the 10 classes"),
        (["--output", "."], ".: expected a file to write the checkpoint to, found a folder"),
        (["--output", "run", "--save-every", "1"], "run: --save-every: expected a name with an ending, such as run.pt"),
        (["--output", "s3://", "--save-every", "1"], "s3://"),
    ],
)
def test_wrong_options_are_refused_in_one_line(tmp_path, options, message):
    assert message in refusal(tmp_path, "train", *SMALL, *options)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_name_that_is_a_file_is_refused_before_training(tmp_path):
    (tmp_path / "run").write_text("mine")
    assert "run: expected a folder for checkpoints, found a file" in refusal(tmp_path, *SAVING)
    assert contents(tmp_path) == {"run": b"mine"}
