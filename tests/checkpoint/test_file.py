"""What is no file, and what a file that cannot be read needs."""

import os
import socket
from pathlib import Path

import pytest
import torch

from simplenet.checkpoint.file import read_contents
from simplenet.errors import CheckpointError, NotACheckpointError
from simplenet.inspection import describe


def test_a_pipe_a_socket_and_a_device_are_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    os.mkfifo("pipe.mar")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket.pt")
        for path, kind in (("pipe.mar", "a named pipe"), ("socket.pt", "a socket"), ("/dev/zero", "a device")):
            for read in (read_contents, describe):
                with pytest.raises(NotACheckpointError, match=f"{path}: expected a file, found {kind}"):
                    read(path)


@pytest.mark.parametrize("name", ["cut.pt", "empty.pt", "cut.safetensors"])
def test_a_file_that_was_cut_says_what_to_do(tmp_path: Path, name: str) -> None:
    torch.save({"w": torch.ones(20)}, tmp_path / "cut.pt")
    whole = (tmp_path / "cut.pt").read_bytes()
    header = b"\x40" + b"\0" * 7 + b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'.ljust(64)
    (tmp_path / name).write_bytes({"cut.pt": whole[:-30], "empty.pt": b""}.get(name, header))
    with pytest.raises(CheckpointError, match=r"download or copy it again$"):
        read_contents(tmp_path / name)
