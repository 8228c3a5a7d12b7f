"""Requests to the management port that do not get through, each told as what it is."""

import signal

import pytest

from simplenet.errors import ServerError
from simplenet.server.management import request


def test_a_missing_token_is_named_with_what_to_do(stand_in):
    one = stand_in()
    (one.run_dir / "management.token").unlink()
    with pytest.raises(ServerError) as refused:
        request(one.server, "GET", "/models")
    message = str(refused.value)
    assert message.startswith(f"{one.run_dir}/management.token: expected the token of the management port, found No")
    assert message.endswith(f"if not, simplenet stop --port {one.server.port}, then simplenet serve")


def test_a_frontend_that_is_frozen_is_not_asked_whether_it_runs(stand_in):
    one = stand_in()
    one.process.send_signal(signal.SIGSTOP)
    with pytest.raises(ServerError, match=r"the frontend did not respond within 0\.2 s; .*: see .*/logs$"):
        request(one.server, "GET", "/models", timeout_s=0.2)


def test_a_frontend_that_has_ended_may_not_run(stand_in):
    one = stand_in()
    one.kill(one.process)
    with pytest.raises(ServerError, match="no response: ConnectionError; is it running"):
        request(one.server, "GET", "/models")
