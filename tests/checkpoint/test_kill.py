"""Saves killed at random moments: what is found afterwards is whole."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import saver

from simplenet.atomic import _open_nameless
from simplenet.checkpoint.file import read_checkpoint
from simplenet.checkpoint.inference import verified_parts
from simplenet.checkpoint.keys import CONTENT_HASH
from simplenet.integrity import content_hash

KILLS = 200
LONGEST_S = 0.05  # until a kill: a few saves


@pytest.fixture
def saving(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that forks others, which save into the folder `saved`."""
    (tmp_path / "saved").mkdir()
    command = [sys.executable, saver.__file__, str(tmp_path / "saved")]
    pipe = subprocess.PIPE
    with (tmp_path / "marks").open("wb") as marks:
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=marks, text=True)
    with process:
        yield process
        process.stdin.close()


def kill_one(process: "subprocess.Popen[str]", after_s: float) -> None:
    """Let a child save for a while, then kill it."""
    print(file=process.stdin, flush=True)
    child = int(process.stdout.readline())
    time.sleep(after_s)  # the random moment itself
    os.kill(child, signal.SIGKILL)
    assert process.stdout.readline() == "ended\n"


def nameless_files(folder: Path) -> bool:
    """Whether the folder has files without a name, so that a kill leaves a hidden one only where it is whole."""
    with _open_nameless(folder) or nullcontext() as file:
        return file is not None


def content_hash_of(path: Path) -> str:
    """The hash of the weights in the file, once it is found to be whole."""
    _, _, metadata = verified_parts(read_checkpoint(path), str(path))
    return metadata[CONTENT_HASH]


def test_every_file_that_killed_saves_leave_is_whole(saving, tmp_path):
    saved = {content_hash(network.state_dict()) for network in saver.networks()}
    chance, folder = random.Random(0), tmp_path / "saved"
    seen: set[str] = set()
    for _ in range(KILLS):
        kill_one(saving, chance.uniform(0, LONGEST_S))
        hidden = {path for path in folder.iterdir() if path.name.startswith(".")}
        named = set(folder.iterdir()) - hidden
        assert seen <= (seen := {path.name for path in named})  # what was there before still is
        assert {content_hash_of(path) for path in named | (hidden if nameless_files(folder) else set())} <= saved
        for path in hidden:
            assert path.suffix == ".tmp"
            path.unlink()
    assert seen == set(saver.NAMES)
    marks = (tmp_path / "marks").read_bytes()
    assert marks.count(b"(") - marks.count(b")") > KILLS / 2  # killed in the middle of a save
    assert marks.count(b")") > KILLS / 4  # and saves before that went to their end
