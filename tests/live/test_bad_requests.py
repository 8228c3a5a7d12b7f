"""One wrong request among 63 good ones: it gets its own 4xx, they get their answers, the worker lives on."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
import torch
from bad_requests import BadRequest, bad_requests
from support import Running, worker_pids

from simplenet import load_model_for_inference

GOOD = 63
RAW = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}


@pytest.fixture(scope="module")
def server(start_shared_server, trained_checkpoint, tmp_path_factory) -> Running:
    """The trained model, its worker waiting long enough for all requests of a test to be one batch."""
    profile = tmp_path_factory.mktemp("profile") / "one-batch.yaml"
    profile.write_text(f"batchSize: {GOOD + 1}\nmaxBatchDelay: 250\nresponseTimeout: 60\nstartupTimeout: 120\n")
    return start_shared_server("--checkpoint", trained_checkpoint, "--profile", profile, checkpoint=trained_checkpoint)


@pytest.fixture(scope="module")
def neighbours(server: Running, digits) -> tuple[list[bytes], np.ndarray]:
    """The bodies of the good requests and the answers they must get."""
    rows = digits[0][:GOOD]
    with torch.inference_mode():
        expected = torch.softmax(load_model_for_inference(server.checkpoint)(rows), dim=1).numpy()
    return [row.numpy().tobytes() for row in rows], expected


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(GOOD + 1) as executor:
        yield executor


def send_bad(server: Running, bad: BadRequest) -> requests.Response:
    headers = {"Content-Type": bad.content_type} if bad.content_type else {}
    return requests.post(server.predictions, data=bad.body, headers=headers, timeout=60)


@pytest.mark.parametrize("bad", bad_requests(), ids=lambda bad: bad.name)
def test_a_bad_request_hurts_no_neighbour(server, neighbours, pool, bad):
    bodies, expected = neighbours
    pids = worker_pids(server.port)
    good = [pool.submit(requests.post, server.predictions, data=body, headers=RAW, timeout=60) for body in bodies]
    refused = pool.submit(send_bad, server, bad).result()
    assert refused.status_code == bad.status, refused.text
    error = refused.json()
    assert set(error) == {"code", "type", "message"}
    assert error["code"] == bad.status
    assert re.search(bad.message, error["message"])
    assert "Traceback" not in error["message"]
    answers = [future.result() for future in good]
    assert [answer.status_code for answer in answers] == [200] * GOOD
    found = np.concatenate([np.frombuffer(answer.content, "<f4").reshape(-1, 10) for answer in answers])
    assert np.abs(found - expected).max() < 1e-5
    assert worker_pids(server.port) == pids


@pytest.mark.parametrize("expect", [{}, {"Expect": "100-continue"}])
def test_a_body_over_the_limit_says_what_the_limit_is(server, expect):
    answer = requests.post(server.predictions, data=bytes((16 << 20) + 1), headers={**RAW, **expect}, timeout=60)
    assert (answer.status_code, answer.json()["code"]) == (413, 413)
    assert answer.json()["message"] == f"body: expected at most {16 << 20} bytes, found more"


def test_a_body_over_the_limit_is_413(server):
    answer = requests.post(server.predictions, data=bytes(17 * 2**20), headers=RAW, timeout=60)
    assert answer.status_code == 413


def test_4096_raw_rows_fit(server):
    answer = requests.post(server.predictions, data=bytes(4096 * 784 * 4), headers=RAW, timeout=60)
    assert answer.status_code == 200
    assert len(answer.content) == 4096 * 10 * 4


def test_a_model_that_is_not_there_is_404(server):
    answer = requests.post(f"{server.url}/predictions/nobody", data=b"", headers=RAW, timeout=60)
    assert answer.status_code == 404
    assert "nobody" in answer.json()["message"]


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"files": {"image": b"x"}}, "expected a field 'data', found 'image'"),
        ({"files": {"data": b"x"}, "data": {"k": "3"}}, "'top_k', found 'k'"),
        ({"files": {"data": ("a.png", b"x", "image/png")}}, "expected a readable PNG or JPEG"),
    ],
)
def test_a_bad_form_names_its_field(server, form, message):
    answer = requests.post(server.predictions, **form, timeout=60)
    assert answer.status_code == 400
    assert message in answer.json()["message"]
