"""Request bytes to rows, predictions to response bytes: one request at a time, each wrong in its own way.

Every function here raises a RequestError that names the field, what was expected and what came; the handler
answers that one request with it.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from simplenet.errors import NotFoundError, RequestError, UnsupportedMediaTypeError
from simplenet.text import quoted
from simplenet.worker.formats import (
    IMAGES,
    JSON,
    NPY,
    RAW,
    Shape,
    describe,
    image_row,
    json_body,
    json_rows,
    npy_rows,
    raw_rows,
)
from simplenet.worker.messages import Answer, Frame

EXPECTED_TYPES = f"{JSON}, {IMAGES[0]}, {IMAGES[1]}, {RAW}, {NPY} or multipart/form-data with a field 'data'"
Bytes = (bytes, bytearray, memoryview)


@dataclass(frozen=True)
class Request:
    """One decoded request: rows `(n, input_size)` float32, how many answers a row, and the form of the answer."""

    rows: np.ndarray
    top_k: int
    answer: str


def decode_or_refuse(frame: Frame, shape: Shape) -> Request | RequestError:
    """`decode` a frame; what is wrong with it comes back instead."""
    try:
        return decode(frame.fields, frame.headers, shape)
    except RequestError as error:
        return error


def decode(fields: Mapping[str, Any], headers: Mapping[str, Any], shape: Shape) -> Request:
    """Read one request as TorchServe hands it over.

    Args:
        fields: `{"body": bytes}`, or the fields of a form; JSON may come already parsed.
        headers: the request's headers as the client wrote them, and `{"content-type": …}` under each field's name.
        shape: what the model takes.

    Raises:
        RequestError: or one of its kinds, with what is wrong in this request.
    """
    lowered = {name.lower(): value for name, value in headers.items() if isinstance(value, str)}
    if lowered.get("explain") == "True":
        raise NotFoundError("explanations: this model offers predictions only; POST to /predictions/<model>")
    if (coding := lowered.get("content-encoding", "").strip().lower()) not in ("", "identity"):
        raise UnsupportedMediaTypeError(f"Content-Encoding: expected none, found {coding[:32]!r}")
    answer = _answer_form(lowered.get("accept", ""))
    content_type = _media_type(lowered.get("content-type", ""))
    if "body" in fields:
        rows, parameters = _decode_body(fields["body"], content_type, shape)
    elif content_type in ("multipart/form-data", "application/x-www-form-urlencoded"):
        rows, parameters = _decode_form(fields, headers, content_type, shape)
    else:
        raise RequestError("body: expected one or more rows, found nothing")
    return Request(rows, _top_k(parameters, shape), answer)


def encode_all(requests: Sequence[Request | RequestError], probabilities: np.ndarray, shape: Shape) -> list[Answer]:
    """The answer to each request of a batch.

    Args:
        requests: decoded, or why not.
        probabilities: of all the decoded requests' rows, one after another, `(rows, num_classes)` float32.
        shape: what the model takes and gives.
    """
    sound = bool(np.isfinite(probabilities).all())
    deepest = max((r.top_k for r in requests if isinstance(r, Request) and r.answer == JSON), default=0)
    ranking = _Ranking(probabilities, deepest, shape) if deepest else None
    answers, at = [], 0
    for request in requests:
        if isinstance(request, RequestError):
            answers.append(encode_error(request))
            continue
        end = at + len(request.rows)
        part = probabilities[at:end]
        if not sound and not np.isfinite(part).all():
            answers.append(encode_error(_overflow(part)))
        elif request.answer == JSON and ranking is not None:
            answers.append(Answer(ranking.encode(at, end, request.top_k), JSON))
        else:
            answers.append(Answer(_encode_array(part, request.answer), request.answer))
        at = end
    return answers


class _Ranking:
    """The most probable classes of every row of a batch, found at once.

    Args:
        probabilities: `(rows, num_classes)` float32.
        deepest: how many of them any request wants.
        shape: which has the labels.
    """

    def __init__(self, probabilities: np.ndarray, deepest: int, shape: Shape) -> None:
        if deepest == 1:
            best = probabilities.argmax(axis=1)[:, None]
        else:
            best = np.argsort(-probabilities, axis=1, kind="stable")[:, :deepest]
        self.best = best.tolist()
        self.values = np.take_along_axis(probabilities, best, axis=1).tolist()
        self.classes = shape.classes

    def encode(self, start: int, end: int, top_k: int) -> bytes:
        """The JSON answer for the rows from `start` to `end`."""
        return orjson.dumps({"predictions": [self._prediction(row, top_k) for row in range(start, end)]})

    def _prediction(self, row: int, top_k: int) -> dict[str, Any]:
        ranked = [
            {"label": self.classes[index], "index": index, "probability": probability}
            for index, probability in zip(self.best[row][:top_k], self.values[row][:top_k], strict=True)
        ]
        return ranked[0] if top_k == 1 else {**ranked[0], "top_k": ranked}


def _encode_array(probabilities: np.ndarray, form: str) -> bytes:
    if form == RAW:
        return probabilities.astype("<f4", copy=False).tobytes()
    buffer = io.BytesIO()
    np.save(buffer, probabilities, allow_pickle=False)
    return buffer.getvalue()


def _overflow(probabilities: np.ndarray) -> RequestError:
    """Why finite rows have no answer: they are so large that the network overflows."""
    row = int(np.isfinite(probabilities).all(axis=1).argmin())
    return RequestError(
        f"row {row}: expected numbers that the network can answer (usually 0 to 1), "
        "found some so large that it overflows"
    )


def encode_error(error: RequestError) -> Answer:
    """What answers a wrong request."""
    body = orjson.dumps({"code": error.status, "type": error.type, "message": str(error)})
    return Answer(body, JSON, error.status, error.type)


def _decode_body(body: Any, content_type: str, shape: Shape) -> tuple[np.ndarray, dict[str, Any]]:
    """Rows and parameters of one body, or of one field of a form."""
    if isinstance(body, str) and content_type != JSON:  # TorchServe's own decoding of text
        body = body.encode()
    if not isinstance(body, Bytes):  # TorchServe's own decoding of JSON: any JSON value
        return json_rows(body, shape)
    data = memoryview(body)
    if not data.nbytes:
        raise RequestError("body: expected one or more rows, found an empty body")
    kind = content_type or _sniff(bytes(data[:16]))
    if kind == JSON:
        return json_body(data, shape)
    if kind in IMAGES:
        return image_row(data, kind, shape), {}
    if kind == RAW:
        return raw_rows(data, shape), {}
    if kind == NPY:
        return npy_rows(data, shape), {}
    raise UnsupportedMediaTypeError(f"Content-Type: expected {EXPECTED_TYPES}; found {content_type or 'none'}")


def _decode_form(
    fields: Mapping[str, Any], headers: Mapping[str, Any], content_type: str, shape: Shape
) -> tuple[np.ndarray, dict[str, Any]]:
    """Rows of the field `data`; `top_k` may be a field beside it."""
    if content_type == "application/x-www-form-urlencoded":  # what curl -d sends unless told otherwise
        raise UnsupportedMediaTypeError(
            f"Content-Type: expected {EXPECTED_TYPES}; found {content_type} (curl -d: add -H 'Content-Type: {JSON}')"
        )
    if "data" not in fields:
        raise RequestError(f"form: expected a field 'data', found {quoted(fields)}")
    if unknown := [name for name in fields if name not in ("data", "top_k")]:
        raise RequestError(f"form: expected the fields 'data' and 'top_k', found {quoted(unknown)}")
    part = headers.get("data")
    part_type = _media_type(str((part or {}).get("content-type") or "")) if isinstance(part, Mapping) else ""
    data = fields["data"]
    if part_type in (RAW, "text/plain"):  # what a client calls a file that it does not know
        data = data.encode() if isinstance(data, str) else data
        part_type = _sniff(bytes(data[:16])) or RAW
    rows, parameters = _decode_body(data, part_type, shape)
    if "top_k" in fields:
        parameters = {**parameters, "top_k": _form_number(fields["top_k"])}
    return rows, parameters


def _form_number(value: Any) -> Any:
    """A form field as a whole number where it is one, else its text; JSON may come already parsed."""
    if not isinstance(value, (str, *Bytes)):
        return value
    text = value if isinstance(value, str) else bytes(value).decode("utf-8", "replace")
    return int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else text


def _top_k(parameters: Mapping[str, Any], shape: Shape) -> int:
    value = parameters.get("top_k", 1)
    if type(value) is not int or not 1 <= value <= len(shape.classes):
        raise RequestError(f"top_k: expected a whole number from 1 to {len(shape.classes)}, found {describe(value)}")
    return value


def _sniff(data: bytes) -> str:
    """The media type that the first bytes show, or none."""
    if data.startswith(b"\x89PNG"):
        return IMAGES[0]
    if data.startswith(b"\xff\xd8\xff"):
        return IMAGES[1]
    if data.startswith(b"\x93NUMPY"):
        return NPY
    return JSON if data.lstrip()[:1] in (b"{", b"[") else ""


def _media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()


def _answer_form(accept: str) -> str:
    """The first of our answer forms that the Accept header names; JSON if it names none."""
    for item in accept.split(","):
        media = _media_type(item)
        if media in (JSON, NPY, RAW):
            return media
    return JSON
