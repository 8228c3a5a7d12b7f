"""Probabilities to response bytes: the responses to a batch, each in the form that its request accepts."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import orjson

from simplenet.errors import RequestError
from simplenet.media_types import JSON
from simplenet.worker.failures import failed_alone
from simplenet.worker.formats.table import FORMATS
from simplenet.worker.limits import LARGEST_MESSAGE, least_size, too_large
from simplenet.worker.messages import DecodedRequest, Response
from simplenet.worker.model_spec import ModelSpec

logger = logging.getLogger(__name__)

_SAMPLE = 1000  # rows that stand for all in the size of a response that is not built
_UNAVAILABLE = 503
_RETRY = (("Retry-After", "1"),)  # seconds


def encode_all(
    requests: Sequence[DecodedRequest | RequestError],
    probabilities: np.ndarray,
    spec: ModelSpec,
    limit: int = LARGEST_MESSAGE,
) -> list[Response]:
    """The response to each request of a batch.

    Args:
        requests: decoded, or the error of each that is wrong.
        probabilities: of all the decoded requests' rows, one after another, `(rows, num_classes)` float32.
        spec: the input and output of the model.
        limit: bytes of one response; a larger one is replaced by a 413 that says how many rows fit.
    """
    deepest = max((r.top_k for r in requests if isinstance(r, DecodedRequest) and r.accept == JSON), default=0)
    try:
        rows, classes = len(probabilities), len(spec.classes)
        if max(least_size(rows, deepest, classes), least_size(rows, 0, classes)) <= limit:
            return _encode_together(requests, probabilities, spec, limit, deepest)
    except Exception:
        logger.warning("%d requests together could not be encoded; each is now encoded alone", len(requests))
    # One at a time: a request that is too large, or that cannot be encoded, takes no other with it.
    responses, start = [], 0
    for request in requests:
        end = start + (len(request.rows) if isinstance(request, DecodedRequest) else 0)
        responses.append(_encode_alone(request, probabilities[start:end], spec, limit))
        start = end
    return responses


def _encode_alone(
    request: DecodedRequest | RequestError, probabilities: np.ndarray, spec: ModelSpec, limit: int
) -> Response:
    """The response to one request; one that is certain to be too large is not built."""
    if isinstance(request, RequestError):
        return encode_error(request)
    rows, deepest = len(probabilities), request.top_k if request.accept == JSON else 0
    try:
        if least_size(rows, deepest, len(spec.classes)) > limit:
            sample = probabilities[:_SAMPLE]
            (part,) = _encode_together([replace(request, rows=sample)], sample, spec, LARGEST_MESSAGE, deepest)
            return encode_error(too_large(len(part.body) * rows // len(sample), rows, len(spec.classes), limit))
        return _encode_together([request], probabilities, spec, limit, deepest)[0]
    except Exception as error:
        return encode_error(failed_alone("encoding", error))


def _encode_together(
    requests: Sequence[DecodedRequest | RequestError],
    probabilities: np.ndarray,
    spec: ModelSpec,
    limit: int,
    deepest: int,
) -> list[Response]:
    """The responses, their rows ranked at once; `deepest` is the largest top_k of any that wants JSON."""
    all_finite = bool(np.isfinite(probabilities).all())
    ranking = _Ranking(probabilities, deepest, spec) if deepest else None
    responses, start = [], 0
    for request in requests:
        if isinstance(request, RequestError):
            responses.append(encode_error(request))
            continue
        end = start + len(request.rows)
        part = probabilities[start:end]
        if not all_finite and not np.isfinite(part).all():
            responses.append(encode_error(_overflow(part)))
        elif request.accept == JSON and ranking is not None:
            responses.append(Response(ranking.encode(start, end, request.top_k), JSON))
        else:
            responses.append(Response(_encode_array(part, request.accept), request.accept))
        if len(responses[-1].body) > limit:
            responses[-1] = encode_error(too_large(len(responses[-1].body), len(part), len(spec.classes), limit))
        start = end
    return responses


def encode_error(error: RequestError) -> Response:
    """The response to a request that is wrong or failed, always JSON; a 503 says when to try again.

    Example:
        >>> encode_error(RequestError("body: expected one or more rows, found an empty body")).body
        b'{"code":400,"type":"BadRequest","message":"body: expected one or more rows, found an empty body"}'
    """
    body = orjson.dumps({"code": error.status, "type": error.type, "message": str(error)})
    # The reason phrase is that of the class: a PredictionError has the name of any exception for its type.
    return Response(body, JSON, error.status, type(error).type, _RETRY if error.status == _UNAVAILABLE else ())


class _Ranking:
    """The most probable classes of every row of a batch, sorted once for all its requests.

    Args:
        probabilities: `(rows, num_classes)` float32.
        deepest: the largest top_k of any request.
        spec: has the labels.
    """

    def __init__(self, probabilities: np.ndarray, deepest: int, spec: ModelSpec) -> None:
        if deepest == 1:
            best = probabilities.argmax(axis=1)[:, None]
        else:
            best = np.argsort(-probabilities, axis=1, kind="stable")[:, :deepest]
        self.best = best.tolist()
        self.values = np.take_along_axis(probabilities, best, axis=1).tolist()
        self.classes = spec.classes

    def encode(self, start: int, end: int, top_k: int) -> bytes:
        """The JSON body for the rows from `start` to `end`."""
        return orjson.dumps({"predictions": [self._prediction(row, top_k) for row in range(start, end)]})

    def _prediction(self, row: int, top_k: int) -> dict[str, Any]:
        ranked = [
            {"label": self.classes[index], "index": index, "probability": probability}
            for index, probability in zip(self.best[row][:top_k], self.values[row][:top_k], strict=True)
        ]
        return ranked[0] if top_k == 1 else {**ranked[0], "top_k": ranked}


def _encode_array(probabilities: np.ndarray, media_type: str) -> bytes:
    encode = FORMATS[media_type].encode
    if encode is None:
        raise ValueError(f"accept: expected a media type that holds an array, found {media_type}")
    return encode(probabilities)


def _overflow(probabilities: np.ndarray) -> RequestError:
    """The error for finite rows so large that the network overflows."""
    row = int(np.isfinite(probabilities).all(axis=1).argmin())
    return RequestError(
        f"row {row}: expected numbers that the network can answer (usually 0 to 1), "
        "found some so large that it overflows"
    )
