"""What the supervisor does, with real processes and a small HTTP server in the place of TorchServe."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from stand_in import StandIn
from support import COMMAND_TIMEOUT_S

from simplenet.errors import ServerError
from simplenet.server import lifecycle
from simplenet.server.awake import AwakeClock
from simplenet.server.drain import CutOff
from simplenet.server.record import Server, find, read_record, write_record
from simplenet.server.run_dir import begin_stopping
from simplenet.server.supervisor import Supervisor

QUICK = {"recovery_timeout_s": 0.3, "max_queue_wait_s": 60}


class Seconds:
    """A clock that a test moves on; a gap of more than a minute counts as a minute."""

    def __init__(self, step: float = 0) -> None:
        self.now, self.step = 0.0, step
        self.clock = AwakeClock(longest_gap_s=60, now=self)

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def watch(server, lines=None, seconds=None, **options) -> Supervisor:
    """A supervisor of a server in the same process."""
    timing = {"period_s": 0.01, "response_timeout_s": 60, "probe_timeout_s": 60}
    if seconds:
        timing["clock"] = seconds.clock
    return Supervisor(server, (lines if lines is not None else []).append, **{**timing, **options})


def look_for(supervisor: Supervisor, seconds: Seconds, how_long: int, every: int = 1) -> None:
    """Look once a second, or less often, by the test's clock."""
    for _ in range(0, how_long, every):
        seconds.now += every
        supervisor.look()


def until_well(supervisor: Supervisor, seconds: Seconds, one: StandIn) -> None:
    """Look until the frontend has been told that everything is well."""
    deadline = time.monotonic() + 60
    while one.health:
        look_for(supervisor, seconds, 1)
        assert time.monotonic() < deadline


def until_it_ends(supervisor: Supervisor) -> str:
    """Look again and again; why the server was ended."""
    deadline = time.monotonic() + 60
    with pytest.raises(ServerError) as ended:
        while time.monotonic() < deadline:
            supervisor.look()
    return str(ended.value)


def test_a_healthy_server_is_left_alone_and_said_to_be_ready(stand_in):
    one, lines, seconds = stand_in("net", "other"), [], Seconds()
    supervisor = watch(one.server, lines, seconds)
    look_for(supervisor, seconds, 100, every=10)
    assert one.health == ""
    assert sorted(lines) == [f"{name} 1.0: worker {one.workers[name].pid} is ready" for name in ("net", "other")]
    assert one.asked("POST /predictions/net") == one.asked("POST /predictions/other") == 10


def test_a_frozen_frontend_costs_one_timeout_a_look_however_many_models_there_are(stand_in):
    one = stand_in(*(f"net{number}" for number in range(5)), **QUICK)
    supervisor = watch(one.server, response_timeout_s=0.3, probe_timeout_s=60)
    while one.asked("POST") < 5:
        supervisor.look()
    one.process.send_signal(signal.SIGSTOP)
    (one.server.logs / "ts_log.log").write_text("java.lang.OutOfMemoryError: heap\n")
    assert "the frontend has not responded for " in (why := until_it_ends(supervisor))
    assert "OutOfMemoryError: heap" in why
    one.process.send_signal(signal.SIGCONT)
    deadline = time.monotonic() + 60
    while not one.asked("GET /models") > 1:  # those that it had not answered reach it now
        assert time.monotonic() < deadline
    assert one.asked("POST") == 5  # and no prediction is among them


def test_models_are_watched_at_the_same_time(stand_in):
    """The stand-in answers no prediction before all models have one: one after the other would never be answered."""
    one, seconds = stand_in("net", "other", "third"), Seconds()
    supervisor = watch(one.server, None, seconds)
    supervisor.look()
    one.set(predictions=dict.fromkeys(one.models, "together"))
    seconds.now += 50
    supervisor.look()
    assert one.health == ""


def test_a_model_whose_worker_does_not_come_back_ends_the_server_with_the_cause(stand_in):
    one, lines, seconds = stand_in("net", "other"), [], Seconds()
    supervisor = watch(one.server, lines, seconds)
    supervisor.look()
    one.kill(one.workers["other"])
    one.set(predictions={"other": 503})
    (one.server.logs / "model_log.log").write_text("ValueError: no weights\n")
    look_for(supervisor, seconds, 30)
    assert one.health == "other: no worker"
    assert lines[-2:] == [f"other 1.0: worker {one.workers['other'].pid} ended", "not ready: other: no worker"]
    with pytest.raises(ServerError, match="other: no worker for 31 s: ValueError: no weights"):
        look_for(supervisor, seconds, 2)


def test_a_worker_that_comes_back_makes_the_server_ready_again(stand_in):
    one, lines, seconds = stand_in(), [], Seconds()
    supervisor = watch(one.server, lines, seconds)
    one.kill(one.workers["net"])
    one.set(predictions={"net": 503})
    look_for(supervisor, seconds, 20)
    assert one.health == "net: no worker"
    one.worker("net")
    one.set(predictions={})
    look_for(supervisor, seconds, 100, every=10)
    assert (one.health, lines[-1]) == ("", "ready again")


def test_a_worker_that_is_stuck_ends_the_server_only_after_torchserve_had_time_to_replace_it(stand_in):
    one, seconds = stand_in(response_timeout_s=100, recovery_timeout_s=30, max_queue_wait_s=10), Seconds()
    supervisor = watch(one.server, None, seconds, probe_timeout_s=0.1)
    supervisor.look()
    one.finish_a_batch("net")
    supervisor.look()
    one.set(predictions={"net": "hang"})
    look_for(supervisor, seconds, 130, every=10)
    assert one.health == "net: no prediction for 130 s"
    assert one.asked("POST") <= 3  # the first, and one each 100 seconds
    with pytest.raises(ServerError, match="net: no prediction for 131 s"):
        look_for(supervisor, seconds, 1)


def test_a_machine_that_slept_ends_no_server_whose_worker_is_busy(stand_in):
    one, seconds = stand_in(response_timeout_s=100), Seconds()
    supervisor = watch(one.server, None, seconds, probe_timeout_s=0.1)
    supervisor.look()
    one.finish_a_batch("net")
    supervisor.look()
    one.set(predictions={"net": "hang"})
    look_for(supervisor, seconds, 5)
    seconds.now += 8 * 3600
    look_for(supervisor, seconds, 5)
    assert "net" in one.health
    one.set(predictions={})
    until_well(supervisor, seconds, one)


def test_what_the_clock_said_when_the_server_started_does_not_matter(stand_in):
    """A machine that gets its time from the network may start a server in 1970."""
    one, seconds = stand_in(), Seconds()
    assert one.server.started == 0
    supervisor = watch(one.server, None, seconds)
    one.kill(one.workers["net"])
    one.set(predictions={"net": 503})
    with pytest.raises(ServerError, match="no worker for 31 s"):
        look_for(supervisor, seconds, 40)


def test_a_model_that_took_long_to_load_has_as_long_to_come_back(stand_in):
    one, seconds = stand_in(start_up_s=100), Seconds()
    supervisor = watch(one.server, None, seconds)
    one.kill(one.workers["net"])
    one.set(predictions={"net": 503})
    supervisor.look()
    look_for(supervisor, seconds, 200, every=10)
    with pytest.raises(ServerError, match="no worker for 201 s"):
        look_for(supervisor, seconds, 1)


@pytest.mark.parametrize("damage", ["removed", "emptied"])
def test_a_record_and_a_token_that_a_cleaner_took_are_written_again(stand_in, damage):
    one, lines = stand_in(), []
    supervisor = watch(one.server, lines)
    supervisor.look()
    port, token = one.server.port, one.run_dir / "management.token"
    for file in (one.run_dir / "server.json", token):
        file.unlink() if damage == "removed" else file.write_bytes(b"")
    supervisor.look()
    assert find(port) == one.server
    assert token.read_text() == one.behaviour["token"]
    assert token.stat().st_mode & 0o777 == 0o600
    assert lines[-1] == "wrote server.json again: it had been removed or damaged"
    assert lifecycle.stop(port) == CutOff()
    assert one.asked("PUT /drain") == 1
    assert one.process.wait(timeout=60) == -signal.SIGTERM
    assert [file.name for file in one.run_dir.iterdir() if file.name in ("server.json", "management.token")] == []


def test_the_record_of_an_earlier_server_elsewhere_is_not_taken_for_this_ones(stand_in, monkeypatch, tmp_path):
    one = stand_in()
    supervisor = watch(one.server)
    monkeypatch.setenv("HOME", str(tmp_path))
    other = tmp_path / ".local" / "state" / "simplenet" / str(one.server.port)
    write_record(Server(one.server.port, 1, 2.0, ("old",), run_dir=other, identity="ended"))
    (one.run_dir / "server.json").unlink()
    supervisor.look()
    assert read_record(one.run_dir) == one.server


def test_what_a_deployment_writes_is_taken_over(stand_in):
    one, lines = stand_in("net"), []
    supervisor = watch(one.server, lines)
    supervisor.look()
    write_record(replace(one.server, models=("net", "new"), versions={"net": "1.0", "new": "1.0"}))
    worker = one.worker("new")
    one.set(models={**one.behaviour["models"], "new": [1, [worker.pid]]})
    supervisor.look()
    assert lines[-1] == f"new 1.0: worker {worker.pid} is ready"


def test_the_files_of_a_server_that_was_stopped_stay_away(stand_in):
    """`stop` removes them while a look is under way."""
    one = stand_in()
    supervisor = watch(one.server)
    one.kill(one.process)
    lifecycle.stop_server(one.server)
    supervisor.look()
    assert not (one.run_dir / "server.json").exists()
    assert not (one.run_dir / "management.token").exists()


@pytest.mark.parametrize(("told_s", "ends_after_s"), [(None, 48), (300, 318)])
def test_a_stop_that_was_killed_leaves_no_server_that_refuses_for_ever(stand_in, told_s, ends_after_s):
    one, seconds = stand_in(drain_timeout_s=30), Seconds(step=1)
    begin_stopping(one.run_dir, *([] if told_s is None else [told_s]))
    supervisor = watch(one.server, None, seconds, period_s=0.001)
    begun = seconds.now
    with pytest.raises(ServerError, match="stopping was not finished by whoever began it"):
        supervisor.run()
    assert ends_after_s <= seconds.now - begun <= ends_after_s + 3


def test_workers_without_state_files_are_known_by_what_torchserve_says(stand_in):
    """As of a library that is older than the state files; the queue is full, so no prediction comes back."""
    one, lines, seconds = stand_in(silent_models=("net",)), [], Seconds()
    supervisor = watch(one.server, lines, seconds)
    look_for(supervisor, seconds, 50)
    assert one.asked("GET /models/net") == 0  # as long as predictions come back
    one.set(predictions={"net": 503})
    look_for(supervisor, seconds, 100, every=10)
    assert 3 <= one.asked("GET /models/net") < 8  # a GPU's worker is asked about with nvidia-smi
    one.kill(one.workers["net"])
    with pytest.raises(ServerError, match=r"net: no worker for 3. s"):
        look_for(supervisor, seconds, 60)


def test_a_sample_that_is_gone_is_no_missing_prediction(stand_in):
    one, seconds = stand_in(recovery_timeout_s=10, max_queue_wait_s=10, response_timeout_s=120), Seconds()
    supervisor = watch(one.server, seconds=seconds)
    one.finish_a_batch("net")
    look_for(supervisor, seconds, 2)
    asked = one.run_dir / "sample"
    asked.unlink()
    one.set(predictions={"net": 503})  # it was read before, so this counts
    look_for(supervisor, seconds, 60, every=5)
    assert "no prediction for" in one.health

    seconds = Seconds()
    fresh = watch(one.server, seconds=seconds)
    one.finish_a_batch("net")
    look_for(fresh, seconds, 400, every=5)
    assert not one.health


def test_the_requests_of_an_old_library_may_take_long(stand_in):
    one, seconds = stand_in(silent_models=("net",)), Seconds()
    one.set(predictions={"net": "hang"})
    supervisor = watch(one.server, None, seconds, probe_timeout_s=0.1)
    look_for(supervisor, seconds, 300, every=10)


def test_a_model_that_was_unregistered_is_let_go_and_the_others_are_watched(stand_in):
    one, lines, seconds = stand_in("net", "other"), [], Seconds()
    supervisor = watch(one.server, lines, seconds)
    supervisor.look()
    models = one.behaviour["models"]
    one.set(models={"other": models["other"]}, predictions={"net": 404})
    one.kill(one.workers["net"])
    look_for(supervisor, seconds, 100, every=10)
    assert one.health == ""
    assert lines[-1] == "net: unregistered; it is not watched"
    one.set(models=models, predictions={"net": 503})  # registered again: its worker is missed
    with pytest.raises(ServerError, match="net: no worker for 31 s"):
        look_for(supervisor, seconds, 40)


def test_a_model_that_was_scaled_to_no_workers_is_not_missed_until_it_shall_have_some(stand_in):
    one, lines, seconds = stand_in("net", "other"), [], Seconds()
    supervisor = watch(one.server, lines, seconds)
    supervisor.look()
    models = one.behaviour["models"]
    one.set(models={**models, "net": [0, []]}, predictions={"net": 503})
    one.kill(one.workers["net"])
    look_for(supervisor, seconds, 100, every=10)
    assert one.health == ""
    assert lines[-1] == "net: scaled to 0 workers"
    one.set(models=models)
    with pytest.raises(ServerError, match="net: no worker for 31 s"):
        look_for(supervisor, seconds, 40)
    assert "net: scaled to 1 worker" in lines


def test_another_version_that_was_made_the_default_past_deploy_counts(stand_in):
    one, seconds = stand_in(versions={"net": "0.9"}), Seconds()
    one.set(predictions={"net": "hang"})  # busy
    supervisor = watch(one.server, None, seconds, probe_timeout_s=0.1)
    look_for(supervisor, seconds, 10)
    assert one.health == ""
    look_for(supervisor, seconds, 100, every=10)


def test_a_stock_frontend_is_watched_too(stand_in):
    one, lines, seconds = stand_in(own=False), [], Seconds()
    supervisor = watch(one.server, lines, seconds)
    one.kill(one.workers["net"])
    one.set(predictions={"net": 503})
    look_for(supervisor, seconds, 10)
    assert (one.asked("PUT"), lines[-1]) == (0, "not ready: net: no worker")
    with pytest.raises(ServerError, match="net: no worker for 31 s"):
        look_for(supervisor, seconds, 40)


def test_a_fault_of_the_supervisors_own_files_is_said_once_and_ends_nothing(stand_in):
    one, lines = stand_in(), []
    (one.server.states / "1.json").mkdir()

    def say(line: str) -> None:
        lines.append(line)
        if "cannot look" in line:
            threading.Timer(0.2, (one.server.states / "1.json").rmdir).start()
        else:
            one.kill(one.process)

    with pytest.raises(ServerError, match="ended by itself"):
        Supervisor(one.server, say, period_s=0.01).run()
    assert lines[0].startswith("cannot look: [Errno 21]")
    assert lines[1:] == [f"net 1.0: worker {one.workers['net'].pid} is ready"]


def detached(one) -> subprocess.Popen:
    """The process that watches a detached server, once it has looked."""
    command = [sys.executable, "-m", lifecycle.SUPERVISOR, str(one.server.port), str(one.run_dir)]
    supervisor = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    one.processes.append(supervisor)
    assert "is ready" in supervisor.stdout.readline()
    return supervisor


def test_a_frontend_that_died_is_reported_with_its_cause(stand_in):
    one = stand_in()
    supervisor = detached(one)
    (one.server.logs / "ts_log.log").write_text("java.lang.OutOfMemoryError: heap\n")
    one.kill(one.process)
    output, _ = supervisor.communicate(timeout=COMMAND_TIMEOUT_S)
    assert supervisor.returncode == 1
    assert "ended: TorchServe ended by itself: OutOfMemoryError: heap" in output
    assert sorted(file.name for file in one.run_dir.iterdir() if file.name != "logs")[1] == "ended.txt"
    with pytest.raises(ServerError, match=r"the last one ended: TorchServe ended by itself: .*heap"):
        lifecycle.stop(one.server.port)


def test_a_supervisor_that_is_asked_to_end_drains_the_server_as_serve_does(stand_in):
    one = stand_in()
    supervisor = detached(one)
    supervisor.terminate()
    output, _ = supervisor.communicate(timeout=COMMAND_TIMEOUT_S)
    assert (supervisor.returncode, one.asked("PUT /drain")) == (0, 1)
    assert "stopping: the supervisor was asked to end" in output
    assert one.process.wait(timeout=60) == -signal.SIGTERM
    assert not (one.run_dir / "server.json").exists()


def test_a_second_signal_to_the_supervisor_ends_the_server_at_once(stand_in):
    one = stand_in(drain_timeout_s=10_000)
    one.set(in_flight=1)
    supervisor = detached(one)
    supervisor.terminate()
    deadline = time.monotonic() + 60
    while not one.asked("GET /requests"):
        assert time.monotonic() < deadline
    supervisor.terminate()
    supervisor.communicate(timeout=COMMAND_TIMEOUT_S)
    assert one.process.wait(timeout=60) == -signal.SIGTERM
    assert not (one.run_dir / "server.json").exists()


def test_a_server_that_started_meanwhile_keeps_its_files(stand_in):
    one = stand_in()
    supervisor = detached(one)
    write_record(replace(one.server, pid=os.getpid(), identity="another"))
    one.kill(one.process)
    supervisor.communicate(timeout=COMMAND_TIMEOUT_S)
    assert read_record(one.run_dir).pid == os.getpid()
    assert not (one.run_dir / "ended.txt").exists()
