"""A short run of scripts/fuzz --bodies, proof that it notices what fails, and any text where a client may put text."""

import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

import body_fuzz
import numpy as np
import pytest
from body_framing import Sent, framed
from body_fuzz import SIZE, Respond, attempt, responder, wrong_in
from body_fuzz_live import send, taken
from body_mutations import Body, mutated
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import run_command

from simplenet.errors import RequestError
from simplenet.media_types import JSON, NPY, RAW
from simplenet.worker.decode import decode_or_refuse
from simplenet.worker.messages import RawRequest, Response
from simplenet.worker.model_spec import ModelSpec

SPEC = ModelSpec(4, ("cat", "dog"))
ROW = np.full((1, SIZE), 0.5, "<f4").tobytes()
GOOD = Body("raw", ROW, RAW, JSON)
NEIGHBOUR = RawRequest(b"", {"Content-Type": RAW, "Accept": JSON}, {"body": memoryview(ROW)})
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)


@pytest.fixture(scope="module")
def respond() -> Respond:
    return responder(body_fuzz.predictors()[0])


def test_damaged_requests_are_answered_or_refused_in_one_line() -> None:
    command = [sys.executable, "-W", "ignore", body_fuzz.__file__, "--work", "--count", "1500"]
    done, result = list(run_command(command, 1500))[-1]
    assert result.failures == []
    assert done == sum(result.outcomes.values()) == 1500
    kinds = {outcome.partition(":")[0] for outcome in result.outcomes}
    assert kinds == {"json", "raw", "npy", "png", "jpeg", "wrong"}
    assert all(result.outcomes[f"{kind}: 200"] > 3 for kind in kinds - {"wrong"})
    assert 0 < result.peak < 2 << 30


def test_a_run_is_the_same_each_time() -> None:
    assert [mutated(number) for number in range(50)] == [mutated(number) for number in range(50)]
    assert [framed(number) for number in range(50)] == [framed(number) for number in range(50)]


def test_a_request_that_raises_is_told() -> None:
    def raising(requests: Sequence[RawRequest]) -> list[Response]:
        raise ValueError("poison")

    outcome, failure = attempt(raising, GOOD, NEIGHBOUR, b"")
    assert outcome == "a traceback"
    assert "ValueError: poison" in str(failure)


def test_a_neighbour_that_is_harmed_is_told(respond: Respond) -> None:
    expected = respond([NEIGHBOUR])[0].body
    assert attempt(respond, GOOD, NEIGHBOUR, expected) == ("raw: 200", None)
    _, failure = attempt(respond, GOOD, NEIGHBOUR, expected + b" ")
    assert "the neighbour was harmed" in str(failure)


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (Response(b'{"message":"x"}', JSON, 500), "status 500"),
        (Response(b'{"message":"a\\nb"}', JSON, 400), "of lines"),
        (Response(b'{"message":"' + b"a" * 600 + b'"}', JSON, 400), "a long message"),
        (Response(b"seven", JSON), "cannot be read"),
        (Response(b'{"predictions":[]}', JSON), "no predictions"),
        (Response(b"", RAW), "an array of 0 bytes"),
        (Response(b"seven", NPY), "an array of 5 bytes"),
    ],
)
def test_a_wrong_response_is_told(response: Response, message: str) -> None:
    assert message in str(wrong_in(response))


@given(JSON_VALUES, st.text(max_size=40), st.text(max_size=40))
@settings(max_examples=300)
def test_any_value_and_any_header_is_decoded_or_refused(value: object, content_type: str, accept: str) -> None:
    for headers in ({"Content-Type": JSON, "Accept": accept}, {"Content-Type": content_type}):
        decoded = decode_or_refuse(RawRequest(b"", headers, {"body": {"instances": value}}), SPEC)
        if not isinstance(decoded, RequestError):
            assert decoded.rows.shape[1:] == (4,)
            assert np.isfinite(decoded.rows).all()


@given(st.binary(max_size=60), st.sampled_from(("", "text/plain", RAW, NPY, JSON)), st.binary(max_size=12))
@settings(max_examples=300)
def test_any_form_is_decoded_or_refused(data: bytes, part_type: str, top_k: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data", "data": {"content-type": part_type}}
    decoded = decode_or_refuse(RawRequest(b"", headers, {"data": data, "top_k": top_k}), SPEC)
    assert isinstance(decoded, RequestError) or decoded.top_k in (1, 2)


def test_answers_are_taken_one_by_one() -> None:
    received = bytearray(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 404 Not")
    assert list(taken(received)) == [200]
    assert received == b"HTTP/1.1 404 Not"


@pytest.mark.parametrize(
    ("answer", "answers", "found"),
    [
        (b"HTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\n", 1, ([400], None)),
        (b"HTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\n", 2, ([400], "1 answers to 2 requests")),
        (b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", 1, ([500], "status 500")),
        (b"", None, ([], None)),
    ],
)
def test_a_server_that_answers_wrongly_is_told(answer: bytes, answers: int | None, found: object) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

        thread = Thread(target=serve)
        thread.start()
        assert send(listener.getsockname()[1], Sent("raw", b"x", answers)) == found
        thread.join()


def test_the_finds_are_kept_as_files(tmp_path: Path) -> None:
    kept = body_fuzz.keep(GOOD, 7, tmp_path)
    assert body_fuzz.kept(kept) == GOOD
