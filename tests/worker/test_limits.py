"""How large a response may be, and what is said of a larger one."""

import os
import subprocess
import sys

import numpy as np
import orjson
import pytest

from simplenet.errors import RequestError
from simplenet.media_types import JSON, NPY, RAW
from simplenet.settings import LARGEST_BATCH_RESPONSE
from simplenet.worker.encode import encode_all
from simplenet.worker.limits import ENVELOPE, LARGEST_MESSAGE, TORCHSERVE_MAX_RESPONSE, Limits, least_size
from simplenet.worker.messages import DecodedRequest
from simplenet.worker.model_spec import ModelSpec

SPEC = ModelSpec(4, tuple("0123456789"))


def request(rows: int, accept: str = JSON, top_k: int = 1) -> DecodedRequest:
    return DecodedRequest(np.zeros((rows, 4), np.float32), top_k, accept)


def answers(requests, limit):
    """The responses to requests with random probabilities."""
    rows = sum(len(one.rows) for one in requests if isinstance(one, DecodedRequest))
    scores = np.random.default_rng(0).random((rows, 10), np.float32)
    return encode_all(requests, scores / scores.sum(axis=1, keepdims=True), SPEC, limit)


@pytest.mark.parametrize("accept", [JSON, RAW, NPY])
@pytest.mark.parametrize("top_k", [1, 3])
@pytest.mark.parametrize("rows", [800, 3000])  # too large once built; certain to be, and never built
def test_a_response_that_is_too_large_is_413_and_as_many_rows_as_it_names_fit(accept, top_k, rows):
    limit = 30_000
    (response,) = answers([request(rows, accept, top_k)], limit)
    error = orjson.loads(response.body)
    assert (response.status, error["code"], error["type"]) == (413, 413, "ResponseTooLarge")
    head, _, rest = error["message"].partition(" rows; send at most ")
    found = int(head.removeprefix(f"response: expected at most {limit} bytes, found ").split()[0])
    assert found > limit
    fitting = int(rest.split()[0])
    assert fitting >= 0.9 * rows * limit / found
    assert answers([request(fitting, accept, top_k)], limit)[0].status == 200


def test_only_a_media_type_that_would_fit_is_recommended():
    assert b"or ask for application/x-npy" in answers([request(700)], 30_000)[0].body
    assert b"or ask for application/x-npy" not in answers([request(3000)], 30_000)[0].body
    assert b"or ask for" not in answers([request(3000, NPY)], 30_000)[0].body


def test_the_neighbours_of_a_response_that_is_too_large_are_answered_as_without_it():
    small = [request(3), request(2, NPY), request(4, top_k=2)]
    large = [request(50_000), RequestError("body: wrong"), request(50_000, RAW)]
    mixed = [small[0], large[0], small[1], large[1], large[2], small[2]]
    found = answers(mixed, 30_000)
    assert [response.status for response in found] == [200, 413, 200, 400, 413, 200]
    unlimited = answers(mixed, LARGEST_MESSAGE)
    assert [found[place] for place in (0, 2, 5)] == [unlimited[place] for place in (0, 2, 5)]


@pytest.mark.parametrize("accept", [JSON, RAW, NPY])
@pytest.mark.parametrize("top_k", [1, 2, 10])
def test_no_response_is_smaller_than_the_least_size(accept, top_k):
    (response,) = answers([request(50, accept, top_k)], LARGEST_MESSAGE)
    assert response.status == 200
    assert least_size(50, top_k if accept == JSON else 0, 10) <= len(response.body)


def test_a_request_that_cannot_be_encoded_fails_alone(caplog):
    wrong = DecodedRequest(np.zeros((2, 4), np.float32), 1, "text/secret")
    found = answers([request(1), wrong, request(3)], LARGEST_MESSAGE)
    assert [response.status for response in found] == [200, 500, 200]
    assert [len(orjson.loads(found[place].body)["predictions"]) for place in (0, 2)] == [1, 3]
    error = orjson.loads(found[1].body)
    assert error["type"] == "KeyError"
    assert "secret" not in error["message"]
    assert "text/secret" in caplog.text


def test_serve_tells_the_limits(monkeypatch):
    monkeypatch.setenv("SIMPLENET_MAX_RESPONSE", "100000")
    monkeypatch.setenv("SIMPLENET_MAX_BATCH_RESPONSE", "500000")
    assert Limits.of_server() == Limits(100_000 - ENVELOPE, 500_000)
    monkeypatch.setenv("SIMPLENET_MAX_BATCH_RESPONSE", "50000")
    assert Limits.of_server() == Limits(50_000 - ENVELOPE, 50_000)


@pytest.mark.parametrize(
    ("arguments", "variable", "expected"),
    [
        (("-f", "own.properties"), "", 7_000_000),
        ((), "", 8_000_000),
        (("-f", "own.properties"), "other.properties", 9_000_000),
        (("-f", "missing.properties"), "", TORCHSERVE_MAX_RESPONSE),
    ],
)
def test_on_a_stock_torchserve_the_limit_is_the_one_of_its_configuration(tmp_path, arguments, variable, expected):
    """The parent process stands for TorchServe: its command line and folder lead to the file."""
    for name, size in (("own", 7_000_000), ("config", 8_000_000), ("other", 9_000_000)):
        (tmp_path / f"{name}.properties").write_text(f"# \nmax_response_size = {size}\nvmargs=-Da=b\n")
    ask = "from simplenet.worker.limits import Limits; print(Limits.of_server())"
    parent = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {ask!r}], cwd='/').returncode)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SIMPLENET_")}
    environment |= {"TS_CONFIG_FILE": variable}
    done = subprocess.run(
        [sys.executable, "-c", parent, *arguments], cwd=tmp_path, env=environment, capture_output=True, check=True
    )
    assert done.stdout.decode().strip() == str(Limits(expected - ENVELOPE, LARGEST_BATCH_RESPONSE))
