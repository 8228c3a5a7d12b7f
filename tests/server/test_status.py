"""What `simplenet status` says."""

import json
import os
import sys
from dataclasses import replace

import pytest
from support import simplenet

from simplenet.server.processes import identity
from simplenet.server.record import Server, write_record
from simplenet.server.status import status_of_all, status_of_port


@pytest.fixture
def recorded(root):
    """A server that runs on 9100 (this process), a dead one on 9105, and one whose record cannot be read on 9110."""
    for port, known in ((9100, identity(os.getpid())), (9105, "another process")):
        (root / str(port)).mkdir()
        server = Server(port, os.getpid(), 1.0, ("net", "old"), run_dir=root / str(port), identity=known)
        numbers, versions = {"net": 2, "old": 1}, {"net": "2.0", "old": "1.0"}
        write_record(replace(server, model_workers=numbers, versions=versions, silent_models=("old",)))
    (root / "9110").mkdir()
    (root / "9110" / "server.json").touch()
    return root


def test_running_dead_and_unreadable_servers_are_told_apart(recorded):
    found, errors = status_of_all()
    ours = [one for one in found if one.logs.startswith(str(recorded))]
    assert [(one.port, one.running) for one in ours] == [(9100, True), (9105, False)]
    assert ours[0].models == {"net": "2.0", "old": "1.0"}
    assert (ours[0].workers, ours[0].expected_workers) == (0, 2)  # the workers of an old archive do not report
    assert ours[0].watched
    assert ours[0].since == "1970-01-01T00:00:01"
    assert [str(recorded / "9110") in str(error) for error in errors if str(recorded) in str(error)] == [True]


def test_a_server_whose_supervisor_has_died_is_not_watched(recorded):
    os.utime(recorded / "9100" / "server.json", (1, 1))
    (status,) = status_of_port(9100)
    assert (status.running, status.watched) == (True, False)
    shown = simplenet("status", "--port", "9100")
    assert "running, not" in shown.stdout
    run_dir = recorded / "9100"
    command = f"nohup {sys.executable} -m simplenet.server.supervisor 9100 {run_dir}"
    assert shown.stderr.endswith(f"to watch it again: {command} >> {run_dir}/logs/supervisor.log 2>&1 &\n")


def test_a_server_that_is_being_stopped_is_said_to_be_stopping(recorded):
    os.utime(recorded / "9100" / "server.json", (1, 1))
    (recorded / "9100" / "stopping").touch()
    assert status_of_port(9100)[0].watched
    shown = simplenet("status", "--port", "9100")
    assert ("stopping" in shown.stdout, "running" in shown.stdout, shown.stderr) == (True, False, "")


def test_the_exit_code_says_whether_one_runs(recorded):
    everything = simplenet("status")
    assert everything.returncode == 0
    assert "9100" in everything.stdout
    assert "dead" in everything.stdout
    assert f"error: {recorded}/9110/server.json: expected the record of a server" in everything.stderr
    (one,) = json.loads(simplenet("status", "--port", "9100", "--json").stdout)
    assert (one["port"], one["pid"], one["running"]) == (9100, os.getpid(), True)
    dead = simplenet("status", "--port", "9105")
    assert (dead.returncode, "dead" in dead.stdout) == (1, True)
    for port in ("9110", "9115"):
        done = simplenet("status", "--port", port)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
