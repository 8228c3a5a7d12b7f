"""Probabilities to response bytes: the responses to a batch, each in the form that its request accepts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from simplenet.errors import RequestError
from simplenet.media_types import JSON
from simplenet.worker.formats.table import FORMATS
from simplenet.worker.messages import DecodedRequest, Response
from simplenet.worker.model_spec import ModelSpec


def encode_all(
    requests: Sequence[DecodedRequest | RequestError], probabilities: np.ndarray, spec: ModelSpec
) -> list[Response]:
    """The response to each request of a batch.

    Args:
        requests: decoded, or the error of each that is wrong.
        probabilities: of all the decoded requests' rows, one after another, `(rows, num_classes)` float32.
        spec: the input and output of the model.
    """
    all_finite = bool(np.isfinite(probabilities).all())
    deepest = max((r.top_k for r in requests if isinstance(r, DecodedRequest) and r.accept == JSON), default=0)
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
        start = end
    return responses


def encode_error(error: RequestError) -> Response:
    """The response to a wrong request, always JSON.

    Example:
        >>> encode_error(RequestError("body: expected one or more rows, found an empty body")).body
        b'{"code":400,"type":"BadRequest","message":"body: expected one or more rows, found an empty body"}'
    """
    body = orjson.dumps({"code": error.status, "type": error.type, "message": str(error)})
    return Response(body, JSON, error.status, error.type)


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
