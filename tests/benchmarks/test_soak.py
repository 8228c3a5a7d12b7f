"""What the soak concludes from what it saw: outcomes, versions, slopes, verdicts; and its schedule."""

import math
from typing import Any

import numpy as np
import orjson
import pytest
from bad_requests import BadRequest

from benchmarks.soak import verdict
from benchmarks.soak.chaos import INTERVALS_S, REPLACING, schedule
from benchmarks.soak.client import Answer, Exchange
from benchmarks.soak.collection import Request
from benchmarks.soak.crowd import CUT, Sent
from benchmarks.soak.intruders import status_if_whole
from benchmarks.soak.promises.stop import split
from benchmarks.soak.sampling import slope_per_min, trend
from benchmarks.soak.tally import AFTER_503, AFTER_BREAK, LOST, OK, REFUSED, WRONG, Tally, judged
from benchmarks.soak.versions import Versions
from simplenet.media_types import JSON, NPY, RAW

A = np.eye(10, dtype=np.float32)[:2]
B = np.eye(10, dtype=np.float32)[2:4]
GOOD = Request("good", b"", {}, 2, {"A": A, "B": B})
BAD = Request("bad", b"", {}, bad=BadRequest("bad", JSON, b"", "expected a row", 400))
REFUSAL = Answer(400, b'{"message":"expected a row of 784"}', JSON)


def predictions(probabilities: np.ndarray) -> bytes:
    best = probabilities.argmax(axis=1)
    rows = [
        {"index": int(index), "probability": float(row[index])} for index, row in zip(best, probabilities, strict=True)
    ]
    return orjson.dumps({"predictions": rows})


def exchange(answer: Answer | None, *met: str, request: Request = GOOD) -> Exchange:
    return Exchange(request, answer, list(met), began=10.0, ended=11.0)


@pytest.mark.parametrize(
    ("content_type", "body", "weights"),
    [
        (RAW, A.tobytes(), {"A"}),
        (RAW, B.tobytes(), {"B"}),
        (JSON, predictions(A), {"A"}),
        (RAW, (A + 9e-6).tobytes(), {"A"}),
        (RAW, (A + 2e-5).tobytes(), set()),
        (JSON, predictions(A * (1 - 2e-5)), set()),
        (JSON, predictions(A[:1]), set()),
        (JSON, predictions(A[::-1]), set()),
        (RAW, A[:1].tobytes(), set()),
        (RAW, np.concatenate([A[:1], B[:1]]).tobytes(), set()),
        (NPY, b"seven", set()),
        (JSON, b'{"predictions":3}', set()),
    ],
)
def test_an_answer_is_compared_with_each_network(content_type: str, body: bytes, weights: set[str]) -> None:
    assert GOOD.weights_that_answer(content_type, body) == weights


@pytest.mark.parametrize(
    ("seen", "outcome"),
    [
        (exchange(Answer(200, A.tobytes(), RAW)), OK),
        (exchange(Answer(200, A.tobytes(), RAW), "503"), AFTER_503),
        (exchange(Answer(200, A.tobytes(), RAW), "503", "ConnectionResetError"), AFTER_BREAK),
        (exchange(Answer(200, B.tobytes(), RAW)), WRONG),  # not live
        (exchange(Answer(200, b"", RAW)), WRONG),
        (exchange(Answer(500, b"", JSON)), LOST),
        (exchange(Answer(400, b"", JSON)), LOST),
        (exchange(Answer(503, b"", JSON), "503"), LOST),
        (exchange(None, "ConnectionResetError"), LOST),
        (exchange(REFUSAL, request=BAD), REFUSED),
        (exchange(REFUSAL, "503", request=BAD), REFUSED),
        (exchange(Answer(200, A.tobytes(), RAW), request=BAD), WRONG),
        (exchange(Answer(400, b'{"message":"other"}', JSON), request=BAD), WRONG),
        (exchange(Answer(500, b"", JSON), request=BAD), LOST),
    ],
)
def test_an_exchange_has_one_outcome(seen: Exchange, outcome: str) -> None:
    assert judged(seen, Versions("A", at=0))[0] == outcome


def test_the_weights_that_were_live_at_any_moment_of_a_request_may_answer_it() -> None:
    versions = Versions("A", at=0)
    versions.begin("B", at=10)
    versions.end("A", at=12)
    assert versions.live(8, 9) == {"A"}
    assert versions.live(8, 10) == versions.live(11, 20) == {"A", "B"}
    assert versions.live(13, 14) == {"B"}
    versions.begin("A", at=20)
    versions.end("B", at=21)
    assert versions.live(13, 14) == {"B"}
    assert versions.live(22, 23) == {"A"}


def test_a_tally_counts_by_outcome_by_second_and_by_what_was_met() -> None:
    tally = Tally(start=9.5)
    tally.record(exchange(Answer(200, b"", RAW), "503"), AFTER_503)
    tally.record(exchange(None, "503", "no answer in 30 s"), LOST, "2 attempts")
    assert tally.outcomes == {AFTER_503: 1, LOST: 1}
    assert tally.met == {"503": 2, "no answer in 30 s": 1}
    assert tally.statuses == {200: 1, 0: 1}
    assert tally.rows == 2
    assert tally.seconds[1].outcomes == {AFTER_503: 1, LOST: 1}
    assert tally.latency_ms(0.99) == tally.latency_ms(0.5, second=1) == 1000
    assert tally.latency_ms(0.5, second=2) is None
    assert tally.examples == ["1.5 s: good: 2 attempts"]


@pytest.mark.parametrize("seconds", [15, 30, 600])
def test_everything_goes_wrong_at_least_once_and_not_at_the_end(seconds: int) -> None:
    events = schedule(seconds, seed=1)
    assert {name for _, name in events} == set(INTERVALS_S)
    assert events == sorted(events) == schedule(seconds, seed=1)
    assert events != schedule(seconds, seed=2)
    assert 0 < events[0][0] <= events[-1][0] < seconds
    if seconds == 600:
        kills = [at for at, name in events if name == "kill"]
        assert 300 / INTERVALS_S["kill"] < len(kills) < 420 / INTERVALS_S["kill"]
        assert max(at for at, name in events if name in REPLACING) < 0.6 * seconds


def test_a_slope_is_per_minute_and_of_the_last_part_with_every_worker() -> None:
    assert slope_per_min([0, 30, 60], [10, 11, 12]) == 2
    assert math.isnan(slope_per_min([1], [1]))
    samples = [{"at_s": second, "workers": 2, "frontend_mib": 100 + second, "m": second / 60} for second in range(1000)]
    for sample in samples[:650]:
        sample["m"] = -1000
    for sample in samples[700:740]:
        sample |= {"workers": 1, "m": -1000}
    for sample in samples[890:915]:  # a burst
        sample["m"] = 1000
    seen = trend(samples, "m", 2)
    assert seen == {"median": pytest.approx(850 / 60, rel=0.1), "per_min": pytest.approx(1, abs=0.02), "grows": True}
    assert math.isnan(trend(samples, "m", 3)["per_min"])


def results(**changed: Any) -> dict[str, Any]:
    flat = {"workers": 2, "frontend_mib": 300.0, "worker_mib": 500.0, "frontend_fds": 80, "worker_fds": 12}
    samples = [{"at_s": second, **flat} for second in range(600)]
    counted: dict[str, Any] = {
        "outcomes": {"ok": 9, "LOST": 0, "WRONG": 0},
        "minutes": 10.0,
        "unanswered": 0,
        "rows": 10**6,
        "bursts": {"200": 1000},
    }
    return counted | {"workers": 2, "workers_at_end": 2, "samples": samples} | changed


def test_a_flat_soak_without_loss_passes() -> None:
    lines = verdict.of_soak(results())
    assert [line.passed for line in lines] == [True] * len(lines)
    assert str(lines[0]) == "pass: lost 0 (at most 0)"
    assert verdict.passed(lines)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"outcomes": {"LOST": 1, "WRONG": 0}}, "FAIL: lost 1 "),
        ({"outcomes": {"LOST": 0, "WRONG": 1}}, "FAIL: wrong 1 "),
        ({"bursts": {"200": 9, "WRONG": 1}}, "FAIL: wrong 1 "),
        ({"unanswered": 2}, "FAIL: without an answer at the end 2 "),
        ({"rows": 999_999}, "FAIL: 999,999 rows "),
        ({"workers_at_end": 1}, "FAIL: 1 of 2 workers "),
        (
            {"samples": [{**sample, "frontend_mib": 300 + sample["at_s"]} for sample in results()["samples"]]},
            "FAIL: memory of frontend: 794.5 MiB, the least of each half minute +60.00 MiB/min, a significant",
        ),
        (
            {"samples": [{**sample, "worker_fds": sample["at_s"]} for sample in results()["samples"]]},
            "FAIL: descriptors of all workers: 494.5, the least of each half minute +60.00/min, a significant",
        ),
    ],
)
def test_a_soak_fails_for_one_reason_alone(changed: dict[str, Any], text: str) -> None:
    lines = verdict.of_soak(results(**changed))
    (failed,) = [line for line in lines if line.passed is False]
    assert str(failed).startswith(text)
    assert not verdict.passed(lines)


def test_a_short_soak_judges_no_slope() -> None:
    lines = verdict.of_soak(results(minutes=0.5))
    assert [line.passed for line in lines].count(None) == len(verdict.SLOPES)


def test_a_stop_splits_requests_at_the_first_refusal() -> None:
    answered, refused, cut = Sent(1.0, 3.5, 200), Sent(2.0, 3.0, 503), Sent(3.2, 4.0, CUT)
    assert split([answered, refused, cut]) == ([answered], [refused, cut])
    assert split([answered]) == ([answered], [])
    crossed = Sent(1.5, 3.1, 503)  # refused a little later than one that was sent after it
    assert split([answered, crossed, refused]) == ([answered], [crossed, refused])


def test_connections_that_are_cut_in_flight_count_as_before_the_stop() -> None:
    cut = [Sent(1.0, 2.0, CUT), Sent(1.5, 2.1, CUT)]
    assert split(cut) == (cut, [])


def test_a_response_has_a_status_once_it_is_whole() -> None:
    whole = b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno"
    assert status_if_whole(whole) == 503
    assert [status_if_whole(whole[:end]) for end in (0, 9, 30, len(whole) - 1)] == [None] * 4
