"""Saves killed at random moments: what is found afterwards is whole."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import saver
from support import COMMAND_TIMEOUT_S

from simplenet.atomic import _open_nameless
from simplenet.checkpoint.file import read_checkpoint
from simplenet.checkpoint.keys import CONTENT_HASH
from simplenet.checkpoint.verify import verified_parts
from simplenet.content_hash import content_hash

KILLS = 200
LONGEST_S = 1.5  # until a kill, at most


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


@contextmanager
def killed(process: "subprocess.Popen[str]") -> Iterator[None]:
    """A child saves meanwhile, and is killed at the end of the body."""
    print(file=process.stdin, flush=True)
    child = int(process.stdout.readline())
    yield
    os.kill(child, signal.SIGKILL)
    assert process.stdout.readline() == "ended\n"


def time_of_a_round(process: "subprocess.Popen[str]", folder: Path) -> float:
    """How long a child takes here and now to save each of the files once."""
    with killed(process):
        began = time.monotonic()
        while not {path.name for path in folder.iterdir()} >= set(saver.NAMES):
            assert time.monotonic() < began + COMMAND_TIMEOUT_S
            time.sleep(0.001)
    return time.monotonic() - began


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
    longest = min(time_of_a_round(saving, folder), LONGEST_S)
    seen: set[str] = set()
    for number in range(KILLS):
        if number % 20 == 19:  # the disk may have become slower
            longest = min(max(longest, time_of_a_round(saving, folder)), LONGEST_S)
        with killed(saving):
            time.sleep(chance.uniform(0, longest))  # the random moment itself
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
