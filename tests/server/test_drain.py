"""Draining, with a small HTTP server in the place of TorchServe."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support import COMMAND_TIMEOUT_S, simplenet

from simplenet.server.drain import CutOff, drain


def test_requests_in_flight_are_waited_for_and_new_ones_refused(stand_in):
    one = stand_in()
    one.set(in_flight=3)
    answered = threading.Timer(0.2, one.set, kwargs={"in_flight": 0})
    answered.start()
    assert drain(one.server, timeout_s=60) == CutOff()
    answered.join()
    assert one.asked("PUT /drain") == 1
    assert one.asked("GET /requests") > 2


def test_what_is_left_is_counted(stand_in):
    one = stand_in()
    one.set(in_flight=3)
    assert drain(one.server, timeout_s=0.5) == CutOff(3)


def test_without_a_timeout_nothing_is_refused(stand_in):
    one = stand_in()
    one.set(in_flight=2)
    assert drain(one.server, timeout_s=0) == CutOff(2)
    assert (one.asked("PUT"), one.server.is_stopping) == (0, False)


def test_a_stock_frontend_cannot_be_drained(stand_in):
    one = stand_in(own=False)
    assert drain(one.server, timeout_s=60) == CutOff(unknown="TorchServe's own frontend does not count them")
    assert (one.asked("PUT"), one.server.is_stopping) == (0, False)


def test_a_frozen_frontend_is_not_waited_for_longer_than_was_said(stand_in):
    one = stand_in()
    one.process.send_signal(signal.SIGSTOP)
    cut_off = drain(one.server, timeout_s=0.3)
    assert cut_off.unknown.startswith(f"{one.server.management_url}: the frontend did not respond within ")
    assert one.server.is_stopping


def test_a_frontend_that_ends_meanwhile_has_nothing_left(stand_in):
    one = stand_in()
    one.set(in_flight=3)
    killed = threading.Timer(0.3, one.kill, args=[one.process])
    killed.start()
    assert drain(one.server, timeout_s=60) == CutOff()
    killed.join()


def test_without_a_token_nobody_knows_what_is_cut_off_and_the_last_line_says_why(stand_in):
    one = stand_in()
    one.set(in_flight=3)
    (one.run_dir / "management.token").unlink()
    done = simplenet("stop", "--port", str(one.server.port), "--drain-timeout", "0.3")
    assert done.stdout == (
        f"stopped the server on port {one.server.port}; it is not known how many requests were cut off: "
        f"{one.run_dir}/management.token: expected the token of the management port, found No such file or directory\n"
    )


@pytest.mark.parametrize("timeout", ["60", "0"])
def test_stopping_at_once_says_how_many_requests_it_cut_off(stand_in, timeout):
    one = stand_in()
    one.set(in_flight=4)
    command = [str(Path(sys.executable).with_name("simplenet")), "stop", "--port", str(one.server.port)]
    with subprocess.Popen([*command, "--drain-timeout", timeout], stdout=subprocess.PIPE, text=True) as stopping:
        while timeout != "0" and not one.asked("GET /requests"):
            assert stopping.poll() is None
        stopping.send_signal(signal.SIGTERM) if timeout != "0" else None
        output, _ = stopping.communicate(timeout=COMMAND_TIMEOUT_S)
    assert output == f"stopped the server on port {one.server.port}; 4 requests cut off\n"
    assert stopping.returncode == 0


def test_a_second_signal_to_a_server_in_the_foreground_says_how_many_requests_it_cut_off(stand_in):
    one = stand_in()
    one.set(in_flight=4)
    program = f"""
from pathlib import Path
from simplenet.cli import serving
from simplenet.server.record import read_record
from simplenet.signals import signals_interrupt
with signals_interrupt():
    serving._stay(read_record(Path({str(one.run_dir)!r})), {{}})
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as serve:
        assert serve.stdout.readline().startswith("ready ")
        serve.send_signal(signal.SIGTERM)
        assert serve.stdout.readline().startswith("stopping: ")
        while not one.asked("GET /requests"):
            assert serve.poll() is None
        serve.send_signal(signal.SIGTERM)
        output, _ = serve.communicate(timeout=COMMAND_TIMEOUT_S)
    assert output == "stopped; 4 requests cut off\n"
