"""A command forked from the warm process is as one that is started, to whoever runs it."""

import os
import socket
import subprocess
from pathlib import Path

import pytest
from warm_command import COMMAND, warm_process


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--help"],
        ["inspect", "net.pt"],
        ["inspect", "missing.pt"],
        ["serve", "--no-such-option"],
        ["stop", "--port", "1"],
    ],
)
def test_folder_environment_output_and_exit_code_are_the_same(trained_checkpoint, tmp_path, arguments):
    (tmp_path / "net.pt").symlink_to(trained_checkpoint)
    environment = {**os.environ, "COLUMNS": "90"}
    started = subprocess.run(
        [COMMAND, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    forked = warm_process().run(arguments, tmp_path, environment, timeout_s=60)
    assert (forked.returncode, forked.stdout, forked.stderr) == (started.returncode, started.stdout, started.stderr)
    assert forked.stdout + forked.stderr


def test_a_command_that_does_not_end_is_killed():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        digit = str(Path(__file__).parents[1] / "data" / "digit.png")
        with pytest.raises(subprocess.TimeoutExpired):
            warm_process().run(["predict", digit, "--url", url], Path.cwd(), dict(os.environ), timeout_s=3)
        silent.settimeout(60)
        connection, _ = silent.accept()
        with connection:
            connection.settimeout(60)
            while connection.recv(1 << 16):  # until the connection ends with the process
                pass
