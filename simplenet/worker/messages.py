"""The messages between the wire, the handler, the decoder and the encoder."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(slots=True)
class RawRequest:
    """One request as received.

    Args:
        request_id: TorchServe's, of 36 bytes; empty if TorchServe's own reader keeps it.
        headers: the request's own by name, and under each field's name `{"content-type": …}`, as in TorchServe.
        fields: `{"body": bytes}`, or the fields of a form. From the wire, the values are views of its buffer, valid
            until the next message is read; TorchServe's own reader may give text or parsed JSON.
    """

    request_id: bytes
    headers: Mapping[str, Any]
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class DecodedRequest:
    """One valid request.

    Args:
        rows: `(n, input_size)` float32.
        top_k: how many classes of each row the response lists.
        accept: the media type of the response.
    """

    rows: np.ndarray
    top_k: int
    accept: str


@dataclass(slots=True)
class Response:
    """The response to one request; `phrase` is the HTTP reason phrase, `headers` come beside the Content-Type."""

    body: bytes
    content_type: str
    status: int = 200
    phrase: str = ""
    headers: tuple[tuple[str, str], ...] = ()
