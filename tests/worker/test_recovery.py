"""A request that makes the network fail does so alone, whatever the network raises; its neighbours are answered."""

import logging
import time

import numpy as np
import orjson
import pytest
import torch
from torch import nn
from unruly_errors import UNRULY

from simplenet.errors import PredictionError, RequestError
from simplenet.media_types import RAW
from simplenet.preprocessing import LOG_PROBABILITIES, OUTPUTS, PROBABILITIES
from simplenet.worker import failures
from simplenet.worker.decode import decode_or_refuse
from simplenet.worker.encode import encode_all
from simplenet.worker.exits import ProcessExitError
from simplenet.worker.failures import DeviceLostError, device_lost
from simplenet.worker.messages import DecodedRequest, RawRequest
from simplenet.worker.model_spec import ModelSpec
from simplenet.worker.predictor import MANY_ROWS, Predictor
from simplenet.worker.recovery import batch_budget_s, predict_each

SPEC = ModelSpec(4, ("a", "b", "c"))
POISON = 666.0
LARGE_CUDA_ERROR = "CUDA error: an illegal memory access was encountered"


class Touchy(nn.Module):
    """A linear layer that does what a test asks for where a row begins with 666; counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = nn.Linear(4, 3)
        self.react = lambda outputs: outputs
        self.passes: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes.append(len(x))
        x.mul_(1)  # networks that work in place are common
        outputs = self.layer(x)
        return self.react(outputs) if bool((x[:, 0] == POISON).any()) else outputs


def throwing(error: BaseException):
    def react(_: torch.Tensor) -> torch.Tensor:
        raise error

    return react


@pytest.fixture
def network() -> Touchy:
    return Touchy().eval()


@pytest.fixture
def predictor(network) -> Predictor:
    return Predictor(network, SPEC, torch.device("cpu"))


def batch(count: int, poisoned=(), rows: int = 2) -> list[DecodedRequest | RequestError]:
    """Requests of some rows, the last row of the poisoned ones beginning with 666."""
    random = np.random.default_rng(0)
    requests = []
    for number in range(count):
        part = random.random((rows, 4), np.float32)
        if number in poisoned:
            part[-1, 0] = POISON
        requests.append(DecodedRequest(part, 1, RAW))
    return requests


def check(predictor, requests, poisoned, budget_s=60.0) -> list[RequestError]:
    """Every request but the poisoned ones is answered as alone; the errors of the others."""
    copies = [one.rows.copy() if isinstance(one, DecodedRequest) else None for one in requests]
    answerable, probabilities = predict_each(predictor, requests, budget_s)
    assert [index for index, one in enumerate(answerable) if isinstance(one, RequestError)] == sorted(poisoned)
    assert probabilities.shape == (sum(len(one.rows) for one in answerable if isinstance(one, DecodedRequest)), 3)
    responses = encode_all(answerable, probabilities, SPEC)
    network = predictor.model.layer
    for index, response in enumerate(responses):
        if index not in poisoned:
            with torch.inference_mode():
                expected = torch.softmax(network(torch.from_numpy(copies[index])), dim=1).numpy()
            assert response.status == 200
            np.testing.assert_allclose(np.frombuffer(response.body, "<f4").reshape(-1, 3), expected, atol=1e-6)
    return [answerable[index] for index in sorted(poisoned)]


def test_a_batch_that_succeeds_takes_one_pass(predictor, network):
    check(predictor, batch(64), set())
    assert network.passes == [128]


@pytest.mark.parametrize("place", range(64))
def test_one_poisoned_request_of_64_fails_alone_in_at_most_12_passes(predictor, network, place):
    network.react = throwing(ValueError("secret in /home/user"))
    (error,) = check(predictor, batch(64, {place}), {place})
    assert (error.status, error.type) == (500, "ValueError")
    assert len(network.passes) <= 12


@pytest.mark.parametrize(
    ("raised", "name"),
    [
        (RuntimeError("secret in /home/user\nand more"), "RuntimeError"),
        (SystemExit("secret"), "SystemExit"),
        (KeyboardInterrupt("secret"), "KeyboardInterrupt"),
        (ProcessExitError("os._exit(3)"), "os._exit"),
        (type("Secret\nError" * 50, (Exception,), {})("secret"), ("Secret Error" * 50)[:80]),
        (PredictionError("secret", "Secret"), "PredictionError"),  # the library's own, but raised by the network
        (DeviceLostError("secret"), "DeviceLostError"),
        (RuntimeError("CUDA error: device-side assert triggered, secret"), "RuntimeError"),  # but CUDA is not in use
    ],
    ids=lambda value: type(value).__name__[:20],
)
def test_whatever_the_network_raises_is_named_to_the_client_and_its_text_goes_to_the_log(
    predictor, network, caplog, raised, name
):
    network.react = throwing(raised)
    (error,) = check(predictor, batch(9, {4}), {4})
    assert error.type == name
    response = encode_all([error], np.empty((0, 3), np.float32), SPEC)[0]
    body = orjson.loads(response.body)
    assert (response.status, body["code"], body["type"]) == (500, 500, name)
    assert f"the network raised {name} for this request; trying again is of no use" in body["message"]
    assert len(body["message"].splitlines()) == 1
    assert "secret" not in body["message"]
    assert response.phrase.isascii()
    assert caplog.text.count("Traceback") == 1
    assert all(line in caplog.text for line in str(raised).splitlines())


@pytest.mark.parametrize("name", UNRULY)
def test_an_exception_whose_own_methods_raise_fails_one_request(predictor, network, caplog, name):
    network.react = throwing(UNRULY[name]("x"))
    (error,) = check(predictor, batch(9, {4}), {4})
    expected = (503, "OutOfMemory") if name == "Odd" else (500, name)  # an Odd one says that memory is out
    assert (error.status, error.type) == expected
    assert caplog.text.count("Traceback") == 1


def test_a_long_message_of_the_network_is_cut_in_the_log(predictor, network, caplog):
    network.react = throwing(ValueError("x" * 1_000_000))
    check(predictor, batch(9, {4}), {4})
    assert "ValueError: xxx" in caplog.text
    assert len(caplog.text) < 30_000


def test_several_poisoned_requests_fail_alone_beside_wrong_ones(predictor, network):
    network.react = throwing(ValueError("no"))
    requests = batch(64, {0, 7, 8, 40, 63})
    requests[3] = requests[41] = RequestError("body: wrong")
    errors = check(predictor, requests, {0, 3, 7, 8, 40, 41, 63})
    assert [error.type for error in errors] == [
        *("ValueError", "BadRequest", "ValueError", "ValueError", "ValueError", "BadRequest", "ValueError")
    ]
    assert len(network.passes) <= 2 * 62


def test_nothing_is_remembered_of_a_poisoned_request(predictor, network):
    network.react = throwing(ValueError("no"))
    for _ in range(3):
        check(predictor, batch(8, {2}), {2})
    network.passes.clear()
    check(predictor, batch(8), set())
    assert network.passes == [16]


def slowly(network: Touchy, seconds: float) -> None:
    """Make every pass of the network take so long at least."""
    original = network.forward

    def forward(x: torch.Tensor) -> torch.Tensor:
        time.sleep(seconds)
        return original(x)

    network.forward = forward


def test_no_second_pass_begins_that_would_end_too_late_if_it_took_as_long_as_the_first(predictor, network):
    network.react = throwing(ValueError("no"))
    slowly(network, 0.6)
    errors = check(predictor, batch(4, {1}), set(range(4)), budget_s=1.0)
    assert {(error.status, error.type) for error in errors} == {(503, "ServiceUnavailable")}
    assert network.passes == [8]


def test_large_requests_that_take_too_long_together_are_answered_as_far_as_time_allows(predictor, network, caplog):
    slowly(network, 0.6)
    errors = check(predictor, batch(3, rows=MANY_ROWS), {1, 2}, budget_s=1.0)
    assert {(error.status, error.type) for error in errors} == {(503, "ServiceUnavailable")}
    assert network.passes == [MANY_ROWS]
    assert "2 of 3 requests were not predicted in 1 s" in caplog.text


def test_a_batch_in_which_all_fail_ends_within_its_budget(predictor, network, caplog):
    network.react = throwing(ValueError("no"))
    errors = check(predictor, batch(64, set(range(64))), set(range(64)), budget_s=0.0)
    assert {(error.status, error.type) for error in errors} == {(503, "ServiceUnavailable")}
    assert network.passes == [128]
    assert "64 of 64 requests were not predicted in 0 s" in caplog.text


@pytest.mark.parametrize(
    "raised", [MemoryError("4 GiB"), torch.cuda.OutOfMemoryError("4 GiB"), RuntimeError("CUDA error: out of memory")]
)
def test_a_batch_too_large_for_memory_is_halved_and_answered(predictor, network, raised):
    original = network.forward

    def forward(x: torch.Tensor) -> torch.Tensor:
        if len(x) > 10:
            network.passes.append(len(x))
            raise raised
        return original(x)

    network.forward = forward
    check(predictor, batch(64), set())
    assert len(network.passes) <= 2 * 64


def test_one_request_too_large_for_memory_gets_503_and_its_neighbours_their_answers(predictor, network):
    network.react = throwing(MemoryError("4 GiB"))
    (error,) = check(predictor, batch(64, {63}), {63})
    assert (error.status, error.type) == (503, "OutOfMemory")
    assert "try again" in str(error)


@pytest.mark.parametrize(
    ("react", "found"),
    [
        (lambda outputs: outputs[1:], r"\(1, 3\)"),
        (lambda outputs: outputs[:, :2], r"\(2, 2\)"),
        (lambda outputs: torch.cat([outputs, outputs]), r"\(4, 3\)"),
        (lambda outputs: outputs[:, :, None], r"\(2, 3, 1\)"),
    ],
)
def test_outputs_of_a_wrong_shape_fail_as_such_and_shift_no_rows(predictor, network, react, found):
    network.react = react
    (error,) = check(predictor, batch(16, {5}), {5})
    assert (error.status, error.type) == (500, "WrongOutputShape")
    with pytest.raises(PredictionError, match=rf"expected outputs of shape \(2, 3\) from the network, found {found}"):
        raise error


def test_outputs_that_are_no_tensor_fail_alone(predictor, network):
    network.react = lambda outputs: (outputs, None)
    (error,) = check(predictor, batch(16, {5}), {5})
    assert error.type == "AttributeError"


@pytest.mark.parametrize("poisoned", [set(), {1}, {0, 2}])
def test_large_requests_run_alone_and_once_for_the_network_may_change_their_rows(predictor, network, poisoned):
    network.react = throwing(ValueError("no"))
    check(predictor, batch(3, poisoned, rows=MANY_ROWS // 2 + 1), poisoned)
    assert network.passes == [MANY_ROWS // 2 + 1] * 3


class Reusing(Touchy):
    """Returns one of its own buffers every time, as networks do that allocate nothing while they run."""

    def __init__(self, output: str) -> None:
        super().__init__()
        self.output = output
        self.register_buffer("buffer", torch.zeros(2 * MANY_ROWS, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = super().forward(x)
        outputs = {PROBABILITIES: torch.softmax, LOG_PROBABILITIES: torch.log_softmax}.get(
            self.output, lambda logits, _: logits
        )(outputs, 1)
        buffer = self.buffer[: len(x)]
        buffer.copy_(outputs)
        return buffer


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(("count", "rows", "poisoned"), [(2, MANY_ROWS, set()), (8, 1, {3})])
def test_a_network_that_fills_one_buffer_again_changes_no_answer_before(output, count, rows, poisoned):
    network = Reusing(output).eval()
    network.react = throwing(ValueError("no"))
    predictor = Predictor(network, SPEC, torch.device("cpu"), output=output)
    check(predictor, batch(count, poisoned, rows), poisoned)
    assert len(network.passes) > 1
    predicted = predictor.predict_together([np.zeros((1, 4), np.float32)])
    assert not np.shares_memory(predicted, network.buffer.numpy())


def test_a_failure_of_the_whole_batch_that_no_part_shows_is_logged(predictor, network, caplog):
    original = network.forward
    network.forward = lambda x: original(x) if len(x) < 128 else throwing(ValueError("no"))(x)
    with caplog.at_level(logging.WARNING):
        check(predictor, batch(64), set())
    assert "64 requests together failed with ValueError; in parts they did not" in caplog.text


def test_a_device_that_is_lost_ends_the_search(predictor, network, monkeypatch):
    monkeypatch.setattr(failures, "_cuda_fails", lambda: True)  # there is no CUDA device here to lose
    network.react = throwing(RuntimeError(LARGE_CUDA_ERROR))
    with pytest.raises(DeviceLostError):
        predict_each(predictor, batch(64, {3}), 60.0)
    assert network.passes == [128]


@pytest.mark.parametrize(
    ("error", "works", "lost"),
    [
        (RuntimeError("CUDA error: device-side assert triggered"), False, True),
        (RuntimeError(LARGE_CUDA_ERROR), False, True),
        (RuntimeError("CUDA error: invalid configuration argument"), True, False),  # this one passes
        (RuntimeError("CUDA error: out of memory"), False, False),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), False, False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), False, False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False, False),
        (ValueError("CUDA error: device-side assert triggered"), False, False),
    ],
)
def test_a_lost_device_is_told_from_other_errors(monkeypatch, error, works, lost):
    monkeypatch.setattr(failures, "_cuda_fails", lambda: not works)
    assert device_lost(error) is lost


def test_without_cuda_no_device_is_lost():
    assert device_lost(RuntimeError("CUDA error: device-side assert triggered")) is torch.cuda.is_initialized()


class BrokenHeaders(dict):
    """Headers that cannot be read."""

    def items(self):
        raise ZeroDivisionError("secret")


def test_a_request_that_cannot_be_decoded_fails_alone(caplog):
    error = decode_or_refuse(RawRequest(b"", BrokenHeaders(), {"body": b"[[1,2,3,4]]"}), SPEC)
    assert (error.status, error.type) == (500, "ZeroDivisionError")
    assert "secret" not in str(error)
    assert "secret" in caplog.text


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"responseTimeout": 60}, 54),
        ({"responseTimeout": 5}, 4.5),
        ({"responseTimeout": 1}, 0.5),
        ({}, 108),
        (None, 108),
        ({"responseTimeout": "soon"}, 108),
        ({"responseTimeout": 0}, 108),
    ],
)
def test_a_batch_may_take_a_little_less_than_the_response_timeout(config, expected):
    assert batch_budget_s(config) == expected
