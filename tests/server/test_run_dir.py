"""The folder that a server lives in."""

import subprocess
import sys

import pytest

from simplenet.errors import ServerError
from simplenet.server import run_dir


def test_a_second_server_on_a_port_leaves_the_firsts_folder_alone(root):
    with run_dir.new_run_dir(9100) as (folder, lock):
        (folder / "tmp" / "mine").touch()
        with pytest.raises(ServerError, match="port 9100: another server is being started"), run_dir.new_run_dir(9100):
            pass
        assert (folder / "tmp" / "mine").exists()
        holder = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock,))
    with pytest.raises(ServerError, match="another server"), run_dir.claimed(9100):
        pass  # the process that inherited the lock still holds it
    holder.communicate(b"\n", timeout=30)
    with run_dir.claimed(9100):
        pass


def test_a_start_that_is_given_up_leaves_nothing_but_logs(root):
    with pytest.raises(KeyboardInterrupt), run_dir.new_run_dir(9100) as (folder, _):
        raise KeyboardInterrupt
    assert [path.name for path in folder.iterdir()] == ["logs"]
