"""Draining, with a small HTTP server in the place of TorchServe."""

import signal
import threading

from simplenet.server.drain import drain


def test_requests_in_flight_are_waited_for_and_new_ones_refused(stand_in):
    one = stand_in()
    one.set(in_flight=3)
    answered = threading.Timer(0.2, one.set, kwargs={"in_flight": 0})
    answered.start()
    assert drain(one.server, timeout_s=60) == 0
    answered.join()
    assert one.asked("PUT /drain") == 1
    assert one.asked("GET /requests") > 2


def test_what_is_left_is_counted(stand_in):
    one = stand_in()
    one.set(in_flight=3)
    assert drain(one.server, timeout_s=0.5) == 3


def test_without_a_timeout_nothing_is_refused(stand_in):
    one = stand_in()
    assert drain(one.server, timeout_s=0) == 0
    assert (one.asked("PUT"), one.server.is_stopping) == (0, False)


def test_a_stock_frontend_cannot_be_drained(stand_in):
    one = stand_in(own=False)
    assert drain(one.server, timeout_s=60) == 0
    assert (one.asked("PUT"), one.server.is_stopping) == (0, False)


def test_a_frozen_frontend_is_not_waited_for_longer_than_was_said(stand_in):
    one = stand_in()
    one.process.send_signal(signal.SIGSTOP)
    assert drain(one.server, timeout_s=0.3) == 0
    assert one.server.is_stopping


def test_a_frontend_that_ends_meanwhile_has_nothing_left(stand_in):
    one = stand_in()
    one.set(in_flight=3)
    killed = threading.Timer(0.3, one.kill, args=[one.process])
    killed.start()
    assert drain(one.server, timeout_s=60) == 0
    killed.join()
