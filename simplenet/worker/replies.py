"""The message with the responses to a batch, which `wire` describes, and what to leave out of one that is too large."""

import struct
from collections.abc import Sequence
from functools import lru_cache

from simplenet.errors import UnavailableError
from simplenet.worker.encode import encode_error
from simplenet.worker.messages import RawRequest, Response

_INT = struct.Struct("!i")
_END = -1


def encode_responses(requests: Sequence[RawRequest], responses: Sequence[Response]) -> bytes:
    """The message for a batch, byte for byte as TorchServe writes it when each response has its own status."""
    parts = [_SUCCESS]
    for request, response in zip(requests, responses, strict=True):
        parts += (
            _INT.pack(len(request.request_id)),
            request.request_id,
            _response_head(response.content_type, response.status, response.phrase, response.headers),
            _INT.pack(len(response.body)),
            response.body,
        )
    parts.append(_INT.pack(_END))
    return b"".join(parts)


def fitted(message: bytes, responses: Sequence[Response], largest: int) -> list[Response]:
    """The responses, the largest of them replaced by a 503 until their message fits.

    Args:
        message: with all of them, too large.
        responses: each small enough alone.
        largest: bytes of the message.
    """
    refusal = encode_error(
        UnavailableError(f"response: the responses of this batch together are larger than {largest} bytes; try again")
    )
    excess, replaced = len(message) - largest, list(responses)
    for index in sorted(range(len(responses)), key=lambda index: -len(responses[index].body)):
        saved = _size(responses[index]) - _size(refusal)
        if excess <= 0 or saved <= 0:
            break
        replaced[index] = refusal
        excess -= saved
    return replaced


def _size(response: Response) -> int:
    head = _response_head(response.content_type, response.status, response.phrase, response.headers)
    return len(head) + len(response.body)


def _sized(text: str) -> bytes:
    data = text.encode()
    return _INT.pack(len(data)) + data


_SUCCESS = _INT.pack(200) + _sized("Prediction success")


@lru_cache(maxsize=64)
def _response_head(content_type: str, status: int, phrase: str, headers: tuple[tuple[str, str], ...]) -> bytes:
    """The bytes from the content type to the headers, which repeat the content type."""
    listed = [_sized(name) + _sized(value) for name, value in (("content-type", content_type), *headers)]
    return b"".join([_sized(content_type), _INT.pack(status), _sized(phrase), _INT.pack(len(listed)), *listed])
