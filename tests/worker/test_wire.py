"""The wire against TorchServe's own reader and writer, byte for byte, however the stream is cut."""

import socket
import struct
import subprocess
import sys
import threading
from itertools import cycle
from pathlib import Path

import orjson
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ts.context import Context, RequestProcessor
from ts.protocol import otf_message_handler as stock
from unruly_errors import UNRULY

from simplenet.worker import wire
from simplenet.worker.failures import DeviceLostError
from simplenet.worker.messages import RawRequest, Response
from simplenet.worker.replies import encode_responses

RECORDED = Path(__file__).parent / "recorded" / "torchserve-0.12-batches.bin"

names = st.text(max_size=12)
tokens = st.text(st.characters(codec="utf-8"), max_size=20)
requests = st.lists(
    st.tuples(
        st.uuids().map(str),
        st.dictionaries(names, tokens, max_size=5),
        st.lists(st.tuples(names, st.sampled_from(["", "image/png", "a/b"]), st.binary(max_size=200)), max_size=3),
    ),
    max_size=6,
)


def sized(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("!i", len(data)) + data


def encode_batch(batch) -> bytes:
    """As the frontend's ModelRequestEncoder does."""
    end = struct.pack("!i", -1)
    out = [b"I"]
    for request_id, headers, fields in batch:
        out.append(sized(request_id))
        out += [sized(name) + sized(value) for name, value in headers.items()]
        out.append(end)
        out += [sized(name) + sized(content_type) + sized(value) for name, content_type, value in fields]
        out.append(end)
    return b"".join([*out, end])


def encode_load(gpu: int) -> bytes:
    return (
        b"L" + sized("simplenet") + sized("/models/x") + struct.pack("!i", 64) + sized("handler.py")
        + struct.pack("!i", gpu) + sized("") + b"\x01"
    )  # fmt: skip


class CutStream:
    """A socket whose bytes come in pieces of the given sizes, over and over."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self.data, self.sizes = memoryview(data), cycle(sizes)

    def recv(self, length: int) -> bytes:
        piece = self.data[: min(length, next(self.sizes))]
        self.data = self.data[len(piece) :]
        return bytes(piece)

    def recv_into(self, room: memoryview) -> int:
        piece = self.recv(len(room))
        room[: len(piece)] = piece
        return len(piece)


def as_stock(request: RawRequest) -> tuple:
    """A request in the terms of TorchServe's reader: id, headers, and fields by name, the last of a name counting."""
    headers = {name: value for name, value in request.headers.items() if isinstance(value, str)}
    return request.request_id, headers, {name: bytes(value) for name, value in request.fields.items()}


def of_stock(batch: list[dict]) -> list[tuple]:
    """The same of what TorchServe's reader returned."""
    return [
        (
            bytes(request["requestId"]),
            {h["name"].decode(): h["value"].decode() for h in request["headers"]},
            {p["name"]: bytes(p["value"]) for p in request["parameters"]},
        )
        for request in batch
    ]


@given(requests, st.lists(st.integers(1, 5000), min_size=1, max_size=5))
def test_batches_are_read_as_torchserve_reads_them(batch, sizes):
    data = encode_batch(batch)
    command, expected = stock.retrieve_msg(CutStream(data, [1 << 20]))
    assert command == b"I"
    reader = wire.Reader(CutStream(data * 2, sizes))
    for _ in range(2):
        command, read = reader.read()
        assert command == b"I"
        assert [as_stock(request) for request in read] == of_stock(expected)
        for raw, request in zip(read, expected, strict=True):
            for parameter in request["parameters"]:
                if parameter["name"] not in {h["name"].decode() for h in request["headers"]}:
                    assert isinstance(raw.headers[parameter["name"]]["content-type"], str)


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=5))
def test_batches_recorded_from_torchserve_are_read_as_it_reads_them(sizes):
    """JSON, raw, PNG, .npy, a form, an empty and a torn body: alone at first, then several at once."""
    data = RECORDED.read_bytes()
    reference = CutStream(data, [1 << 20])
    reader = wire.Reader(CutStream(data, sizes))
    lengths = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TS_DECODE_INPUT_REQUEST", "false")  # bodies as bytes, as this project sets it
        while reference.data:
            _, expected = stock.retrieve_msg(reference)
            _, read = reader.read()
            assert [as_stock(request) for request in read] == of_stock(expected)
            lengths.append(len(read))
    assert sum(lengths) == 28
    assert lengths[:7] == [1] * 7
    assert max(lengths) > 1
    with pytest.raises(EOFError):
        reader.read()


@pytest.mark.parametrize("gpu", [-1, 3])
@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=3))
def test_load_messages_are_read_as_torchserve_reads_them(gpu, sizes):
    data = encode_load(gpu)
    command, expected = stock.retrieve_msg(CutStream(data, [1 << 20]))
    assert wire.Reader(CutStream(data, sizes)).read() == (command, expected)


def test_batches_larger_than_the_buffer_come_through_a_real_socket():
    batch = [(f"id-{i}", {"accept": "*/*"}, [("body", "a/b", bytes([i]) * 300_000)]) for i in range(16)]
    data = encode_batch(batch)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=lambda: [theirs.sendall(data) for _ in range(3)])
        sender.start()
        reader = wire.Reader(ours)
        for _ in range(3):
            _, read = reader.read()
            assert [bytes(request.fields["body"]) for request in read] == [fields[0][2] for _, _, fields in batch]
        sender.join()


def test_a_closed_connection_is_the_end():
    with pytest.raises(EOFError):
        wire.Reader(CutStream(encode_batch([("id", {}, [])])[:-2], [7])).read()


def test_another_command_is_refused():
    with pytest.raises(ValueError, match="X"):
        wire.Reader(CutStream(b"X", [1])).read()


responses = st.lists(
    st.tuples(
        st.uuids().map(str),
        st.builds(
            Response,
            body=st.binary(max_size=300),
            content_type=st.sampled_from(["application/json", "application/x-npy"]),
            status=st.sampled_from([200, 400, 415]),
            phrase=st.sampled_from(["", "BadRequest"]),
            headers=st.sampled_from([(), (("Retry-After", "1"),)]),
        ),
    ),
    max_size=6,
)


@given(responses)
def test_responses_are_written_as_torchserve_writes_them(pairs):
    context = Context("m", ".", {}, 1, None, "0.12.0")
    context.request_processor = [RequestProcessor({}) for _ in pairs]
    for index, (_, response) in enumerate(pairs):
        context.set_response_content_type(index, response.content_type)
        context.set_response_status(response.status, response.phrase, index)
        for name, value in response.headers:
            context.set_response_header(index, name, value)
    ids = {index: request_id for index, (request_id, _) in enumerate(pairs)}
    expected = stock.create_predict_response(
        [response.body for _, response in pairs], ids, "Prediction success", 200, context=context
    )
    requests = [RawRequest(request_id.encode(), {}, {}) for request_id, _ in pairs]
    assert encode_responses(requests, [response for _, response in pairs]) == bytes(expected)


REQUESTS = [RawRequest(b"one", {}, {}), RawRequest(b"two", {}, {})]


def failure(error: BaseException, outcome: wire.Outcome | None = None) -> list[tuple[int, dict, bytes]]:
    """Status, headers and body that each request of a batch of two gets whose handler raises an error."""

    def broken(_: list[RawRequest]) -> list[Response]:
        raise error

    return sent(wire.respond_or_fail(REQUESTS, broken, outcome=outcome))


def sent(message: bytes) -> list[tuple[int, dict, bytes]]:
    """Status, headers and body of every response, as the frontend's ModelResponseDecoder reads them."""
    at, responses = 0, []

    def number() -> int:
        nonlocal at
        at += 4
        return struct.unpack_from("!i", message, at - 4)[0]

    def text(length: int) -> bytes:
        nonlocal at
        at += length
        return message[at - length : at]

    assert (number(), text(number())) == (200, b"Prediction success")
    while (length := number()) != -1:
        text(length)
        text(number())
        status, _ = number(), text(number())
        headers = {text(number()).decode(): text(number()).decode() for _ in range(number())}
        responses.append((status, headers, text(number())))
    assert at == len(message)
    return responses


@pytest.mark.parametrize(
    "error",
    [KeyError("surprise"), RuntimeError("surprise"), OSError("surprise: out of memory is only the name of a file")],
)
def test_what_the_handler_did_not_foresee_fails_its_batch_and_is_logged(error, caplog):
    responses = failure(error)
    assert len(responses) == len(REQUESTS)
    for status, headers, body in responses:
        assert (status, headers["Retry-After"]) == (503, "1")
        assert orjson.loads(body)["type"] == "ServiceUnavailable"
        assert b"surprise" not in body
    assert str(error) in caplog.text


def real_allocation_failure() -> Exception:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50, dtype=torch.uint8)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("tried to allocate 2 GiB"),
        torch.cuda.OutOfMemoryError(),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        real_allocation_failure(),
    ],
    ids=repr,
)
def test_running_out_of_memory_fails_its_batch_with_503_and_is_logged(error, caplog):
    for status, headers, body in failure(error):
        assert (status, headers["Retry-After"]) == (503, "1")
        assert orjson.loads(body)["type"] == "OutOfMemory"
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("name", UNRULY)
def test_an_exception_whose_own_methods_raise_fails_its_batch_and_is_logged(name, caplog):
    assert [status for status, _, _ in failure(UNRULY[name]("x"))] == [503, 503]
    assert name in caplog.text


def test_a_lost_device_fails_its_batch_and_the_worker_knows_it():
    outcome = wire.Outcome()
    assert [status for status, _, _ in failure(DeviceLostError("lost"), outcome)] == [503, 503]
    assert outcome.device_lost


def test_responses_that_are_too_large_together_lose_the_largest_until_the_rest_fits():
    requests = [RawRequest(b"%36d" % number, {}, {}) for number in range(6)]
    sizes = [100, 5000, 40, 3000, 4000, 2000]
    responses = [Response(b"x" * size, "application/json") for size in sizes]
    whole = len(encode_responses(requests, responses))
    assert len(wire.respond_or_fail(requests, lambda _: responses, whole)) == whole
    for most in (whole - 1, 9000, 6000, 4000):
        message = wire.respond_or_fail(requests, lambda _: responses, most)
        assert len(message) <= most
        answers = sent(message)
        kept = [size for size, (status, _, _) in zip(sizes, answers, strict=True) if status == 200]
        assert kept == [size for size in sizes if size <= max(kept)]
        for size, (status, headers, body) in zip(sizes, answers, strict=True):
            assert (status, len(body)) == (200, size) or (status, headers["Retry-After"]) == (503, "1")
    assert [status for status, _, _ in sent(wire.respond_or_fail(requests, lambda _: responses, whole - 1))].count(
        503
    ) == 1


def test_the_wire_is_imported_without_torch():
    code = "import sys, simplenet.worker.wire; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_wire_is_not_installed_outside_a_worker():
    assert wire.install(lambda requests: []) is False


def test_messages_follow_each_other_without_gaps():
    messages = [encode_load(-1), encode_batch([]), encode_batch([("x", {}, [("body", "", b"1")])]), encode_load(0)]
    stream = CutStream(b"".join(messages), [3, 1, 8])
    reader = wire.Reader(stream)
    assert [reader.read()[0] for _ in messages] == [b"L", b"I", b"I", b"L"]
