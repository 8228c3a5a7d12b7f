"""What passes between the wire, the handler and the codec."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Frame:
    """One request as it came.

    `headers` holds the request's own by name, and under each field's name `{"content-type": …}`, as TorchServe does.
    From the wire, the fields' values are views of its buffer, good until the next message is read.
    """

    request_id: bytes
    headers: Mapping[str, Any]
    fields: Mapping[str, Any]


@dataclass(slots=True)
class Answer:
    """What goes back for one request; `phrase` is the HTTP reason."""

    body: bytes
    content_type: str
    status: int = 200
    phrase: str = ""
