"""The folder that a server lives in."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

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


def test_a_state_home_that_torchserve_cannot_use_is_passed_over(root, monkeypatch, tmp_path):
    home = root / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for unusable in (tmp_path / ("long" * 25), root / "Ünïcode", root / "a b", root / "a:b", root / "a#b", "relative"):
        monkeypatch.setenv("XDG_STATE_HOME", str(unusable))
        assert run_dir.run_root() == home / ".local" / "state" / "simplenet"
    (root / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(root / "file"))  # no folder can be made there
    assert run_dir.run_root() == home / ".local" / "state" / "simplenet"


def test_without_a_usable_home_the_runtime_folder_is_taken_and_then_tmp(root, monkeypatch):
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(root / "missing"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(root))
    assert run_dir.run_root() == root / "simplenet"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(root / "missing"))
    monkeypatch.setenv("TMPDIR", str(root))
    assert run_dir.run_roots()[0] == Path(f"/tmp/simplenet-{os.getuid()}")  # whatever TMPDIR says


def test_a_cleaner_that_respects_locks_keeps_away_while_the_server_runs(root):
    with run_dir.new_run_dir(9100) as (folder, lock):
        holder = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock,))
    cleaner = os.open(folder, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(cleaner, fcntl.LOCK_SH | fcntl.LOCK_NB)  # as systemd-tmpfiles does before it looks inside
    holder.communicate(b"\n", timeout=30)
    fcntl.flock(cleaner, fcntl.LOCK_SH | fcntl.LOCK_NB)
    os.close(cleaner)


def test_another_start_keeps_the_archives_and_moves_the_logs_aside(root):
    with run_dir.new_run_dir(9100) as (folder, _):
        for name in ("models/a.mar", "logs/ts_log.log", "tmp/socket", "state/1.json"):
            (folder / name).touch()
        for number in (1, 2):
            run_dir.renew(folder)
            assert (folder / f"logs/refused-{number}").is_dir()
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == ["logs/refused-1/ts_log.log", "models/a.mar"]
    assert all((folder / name).is_dir() for name in ("tmp", "state"))


@pytest.mark.parametrize("value", ["relative/folder", "/tmp/käse"])
def test_a_state_home_that_cannot_be_used_is_named_with_the_folder_that_is(root, monkeypatch, caplog, value):
    monkeypatch.setenv("HOME", str(root))
    run_dir.run_root()
    assert caplog.messages == []
    monkeypatch.setenv("XDG_STATE_HOME", value)
    used = run_dir.run_root()
    assert used == root / ".local/state/simplenet"
    (line,) = caplog.messages
    assert line.startswith("XDG_STATE_HOME: expected an absolute, short path of ASCII letters")
    assert line.endswith(f"found {value!r}; the run directory is in {used}")
