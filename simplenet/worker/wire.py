"""The worker's side of TorchServe 0.12's protocol, read from the socket in large pieces.

The stock reader reads every field from the socket separately, about fifty system calls per request. This one receives
all available bytes, parses the fields in its buffer, and passes request bodies to the decoder as views, without a copy.

The format is that of the frontend's ModelRequestEncoder and ModelResponseDecoder (on the worker's side:
ts/protocol/otf_message_handler.py); integers are 4 bytes in network order, -1 ends a list, bytes follow their length:

    load       'L' name path batch_size handler gpu envelope limit_max_image_pixels
    inference  'I' request* -1
    request    id (name value)* -1 (name content_type value)* -1
    response   status message part* -1
    part       id content_type status phrase header_count (name value)* body
"""

import logging
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simplenet import settings
from simplenet.errors import OutOfMemoryError, UnavailableError
from simplenet.worker import exits
from simplenet.worker.encode import encode_error
from simplenet.worker.exception_text import traceback_of
from simplenet.worker.failures import DeviceLostError, out_of_memory
from simplenet.worker.limits import LARGEST_MESSAGE
from simplenet.worker.messages import RawRequest, Response
from simplenet.worker.replies import encode_responses, fitted

logger = logging.getLogger(__name__)

TORCHSERVE_VERSION = "0.12.0"  # the last release: its protocol will not change

_INT = struct.Struct("!i")
_END = -1
_BUFFER = 1 << 18  # bytes at first; it grows until a message fits
_LARGE_BUFFER = 1 << 26  # bytes; a larger one is freed after its message
_KNOWN_HEADERS = 8  # blocks of headers kept by a reader: a client's requests all have the same headers
_LONG_HEADERS = 4096  # bytes; a longer block is not kept

Headers = dict[str, Any]
Span = tuple[str, str, int, int]  # a field's name, media type, and where its value begins and ends
Respond = Callable[[list[RawRequest]], list[Response]]


class _IncompleteError(Exception):
    """The message is incomplete; `args[0]` is the least number of bytes that it must have."""


class Reader:
    """Reads messages from a connected stream socket; nothing else may read from it."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray(_BUFFER)
        self._start = self._end = 0  # the bytes received and not yet consumed
        self._known: list[tuple[bytes, Headers]] = []  # blocks of headers and the parsed headers, the latest first

    def read(self) -> tuple[bytes, Any]:
        """The next message: `(b"I", [RawRequest, …])`, or `(b"L", {…})` as TorchServe's own reader gives it.

        Raises:
            EOFError: the frontend closed the connection.
            ValueError: a message of another kind.
        """
        self._rewind()
        command = self._take(_command)
        if command == b"L":
            return command, self._take(_load_message)
        if command != b"I":
            raise ValueError(f"Invalid command: {command!r}")
        return command, self._inference()

    def _inference(self) -> list[RawRequest]:
        """Every request of a batch; parsed requests are kept while more bytes are received."""
        parsed: list[tuple[bytes, Headers, list[Span]]] = []
        at = 0  # counted from the message's start, because the message may move in the buffer
        while True:
            view = memoryview(self._buffer)[self._start : self._end]
            try:
                while (request := _request(view, at, self._known)) is not None:
                    parsed.append(request[:3])
                    at = request[3]
            except _IncompleteError as short:
                view.release()
                self._receive(short.args[0])
                continue
            self._start += at + _INT.size
            return [_raw_request(view, *request) for request in parsed]

    def _take(self, parse: Callable[[memoryview], tuple[Any, int]]) -> Any:
        """The value that `parse` reads from the next bytes; `parse` also returns their number."""
        while True:
            view = memoryview(self._buffer)[self._start : self._end]
            try:
                value, length = parse(view)
            except _IncompleteError as short:
                view.release()
                self._receive(short.args[0])
                continue
            self._start += length
            return value

    def _rewind(self) -> None:
        """Between two messages: use the buffer from its beginning, and free a large one."""
        if self._start == self._end:
            self._start = self._end = 0
            if len(self._buffer) > _LARGE_BUFFER:
                self._buffer = bytearray(_BUFFER)

    def _receive(self, least: int) -> None:
        """Receive until the buffer holds `least` bytes of the message, or more if available."""
        if self._start + least > len(self._buffer):
            waiting = self._buffer[self._start : self._end]
            if least > len(self._buffer):
                self._buffer = bytearray(max(least, 2 * len(self._buffer)))
            self._buffer[: len(waiting)] = waiting
            self._start, self._end = 0, len(waiting)
        with memoryview(self._buffer) as room:
            while self._end - self._start < least:
                count = self._socket.recv_into(room[self._end :])
                if not count:
                    raise EOFError("the frontend closed the connection")
                self._end += count


def install(respond: Respond, largest: int = LARGEST_MESSAGE, answered: Callable[[], None] = lambda: None) -> bool:
    """In a worker of TorchServe 0.12, replace its reader and writer from the next message on.

    Args:
        respond: called with every batch; one response per request, in order.
        largest: bytes of the message for a batch.
        answered: called after the responses to a batch were sent.

    Returns:
        Whether it was installed: False for another version, outside a worker, or if SIMPLENET_WIRE is "stock".
    """
    import ts
    from ts.service import Service

    if settings.WIRE.read_or_warn() == "stock" or ts.__version__ != TORCHSERVE_VERSION or not exits.in_worker():
        return False
    readers: dict[socket.socket, Reader] = {}
    outcome = Outcome()

    def retrieve_msg(connection: socket.socket) -> tuple[bytes, Any]:
        if outcome.device_lost:  # the message that says so was sent
            exits.leave()
        answered()
        reader = readers.get(connection)
        if reader is None:
            reader = readers[connection] = Reader(connection)
        try:
            return reader.read()
        except EOFError:
            logger.info("Frontend disconnected.")
            sys.exit(0)

    def predict(_: Any, requests: list[RawRequest]) -> bytes:
        return respond_or_fail(requests, respond, largest, outcome)

    sys.modules["__main__"].retrieve_msg = retrieve_msg  # type: ignore[attr-defined]
    Service.predict = predict
    return True


@dataclass
class Outcome:
    """What answering the last batch has shown: whether this process can use its device no more."""

    device_lost: bool = False


def respond_or_fail(
    requests: list[RawRequest], respond: Respond, largest: int = LARGEST_MESSAGE, outcome: Outcome | None = None
) -> bytes:
    """The message for a batch; an error that nobody foresaw fails all of it with 503 and is logged.

    Args:
        requests: of the batch.
        respond: one response per request, in order.
        largest: bytes of the message.
        outcome: is told of a lost device.
    """
    try:
        responses = respond(requests)
        message = encode_responses(requests, responses)
        return message if len(message) <= largest else encode_responses(requests, fitted(message, responses, largest))
    except DeviceLostError:
        if outcome is not None:
            outcome.device_lost = True
        error = UnavailableError("prediction: the device of this worker failed, another starts; try again")
    except Exception as unforeseen:
        logger.error("the handler failed\n%s", traceback_of(unforeseen))
        if out_of_memory(unforeseen):
            error = OutOfMemoryError("prediction: the worker is out of memory; try again")
        else:
            error = UnavailableError("prediction: the worker failed (see its log); try again")
    return encode_responses(requests, [encode_error(error)] * len(requests))


def _command(view: memoryview) -> tuple[bytes, int]:
    if not len(view):
        raise _IncompleteError(1)
    return bytes(view[:1]), 1


def _request(
    view: memoryview, at: int, known: list[tuple[bytes, Headers]]
) -> tuple[bytes, Headers, list[Span], int] | None:
    """The request at `at`: its id, headers, the spans of its fields and its end; None at the end of the list."""
    length, at = _int(view, at)
    if length == _END:
        return None
    request_id, at = _bytes(view, at, length)
    headers, at = _headers(view, at, known)
    spans: list[Span] = []
    while True:
        length, at = _int(view, at)
        if length == _END:
            return request_id, headers, spans, at
        name, at = _bytes(view, at, length)
        length, at = _int(view, at)
        content_type, at = _bytes(view, at, length)
        length, at = _int(view, at)
        if at + length > len(view):
            raise _IncompleteError(at + length + _INT.size)
        spans.append((name.decode(), content_type.decode(), at, at + length))
        at += length


def _headers(view: memoryview, at: int, known: list[tuple[bytes, Headers]]) -> tuple[Headers, int]:
    """The headers at `at`, and the end of their list; a known block is not parsed again."""
    for block, headers in known:
        if view[at : at + len(block)] == block:
            return headers, at + len(block)
    begin, headers = at, {}
    while True:
        length, at = _int(view, at)
        if length == _END:
            break
        name, at = _bytes(view, at, length)
        length, at = _int(view, at)
        value, at = _bytes(view, at, length)
        headers[name.decode()] = value.decode()
    if at - begin <= _LONG_HEADERS:
        known.insert(0, (bytes(view[begin:at]), headers))
        del known[_KNOWN_HEADERS:]
    return headers, at


def _raw_request(view: memoryview, request_id: bytes, headers: Headers, spans: list[Span]) -> RawRequest:
    fields = {name: view[begin:end] for name, _, begin, end in spans}
    types: dict[str, Any] = {name: {"content-type": content_type} for name, content_type, _, _ in spans}
    return RawRequest(request_id, {**types, **headers}, fields)


def _load_message(view: memoryview) -> tuple[dict[str, Any], int]:
    """The fields of a load message under the names of TorchServe's own reader."""
    message: dict[str, Any] = {}
    length, at = _int(view, 0)
    message["modelName"], at = _bytes(view, at, length)
    length, at = _int(view, at)
    message["modelPath"], at = _bytes(view, at, length)
    message["batchSize"], at = _int(view, at)
    length, at = _int(view, at)
    message["handler"], at = _bytes(view, at, length)
    gpu, at = _int(view, at)
    if gpu >= 0:
        message["gpu"] = gpu
    length, at = _int(view, at)
    message["envelope"], at = _bytes(view, at, length)
    flag, at = _bytes(view, at, 1)
    message["limitMaxImagePixels"] = flag != b"\0"
    return message, at


def _int(view: memoryview, at: int) -> tuple[int, int]:
    if at + 4 > len(view):
        raise _IncompleteError(at + 4)
    return _INT.unpack_from(view, at)[0], at + 4


def _bytes(view: memoryview, at: int, length: int) -> tuple[bytes, int]:
    end = at + length
    if end > len(view):
        raise _IncompleteError(end)
    return bytes(view[at:end]), end
