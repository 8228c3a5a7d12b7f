"""Predict a batch; if that fails, find the requests that make it fail, and predict the others.

Any exception that a network raises, also SystemExit and a call of `os._exit`, fails the one request that raises it.
Nothing is remembered between batches.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from simplenet.errors import OutOfMemoryError, RequestError, UnavailableError
from simplenet.settings import DEFAULT_RESPONSE_TIMEOUT_S
from simplenet.worker.bisection import find_culprits
from simplenet.worker.failures import prediction_failed
from simplenet.worker.messages import DecodedRequest
from simplenet.worker.predictor import Predictor

logger = logging.getLogger(__name__)

Requests = list[DecodedRequest | RequestError]


_SPARE = 0.1  # of the time for a batch, kept for what comes before and after its passes: decoding, encoding, sending
_LEAST_SPARE_S = 0.5


def batch_budget_s(model_config: Mapping[str, Any] | None) -> float:
    """How long all passes of a batch may take, in seconds: a little less than the model's `responseTimeout`.

    After a whole one TorchServe kills the worker, and every request of the batch fails.

    Example:
        >>> batch_budget_s({"responseTimeout": 60}), batch_budget_s({"responseTimeout": 1})
        (54.0, 0.5)
    """
    timeout = (model_config or {}).get("responseTimeout")
    if not isinstance(timeout, (int, float)) or timeout <= 0:
        timeout = DEFAULT_RESPONSE_TIMEOUT_S
    return float(timeout - max(_SPARE * timeout, min(_LEAST_SPARE_S, timeout / 2)))


def predict_each(predictor: Predictor, requests: Requests, budget_s: float) -> tuple[Requests, np.ndarray]:
    """Predict the rows of every decoded request.

    Args:
        predictor: of the model.
        requests: decoded, or the error of each that is wrong.
        budget_s: seconds for all passes; none begins that may end later, and what is not settled gets a 503.

    Returns:
        The requests, an error in place of each that failed; the probabilities of all rows of the others, in order.

    Raises:
        DeviceLostError: this process can predict nothing any more.
    """
    start = time.monotonic()
    parts = [request.rows for request in requests if isinstance(request, DecodedRequest)]
    groups = predictor.groups(parts)
    if len(groups) == 1:
        try:
            return requests, predictor.predict_together(parts)
        except BaseException as error:
            first = prediction_failed(error, alone=len(parts) == 1)
        attempts = _Attempts(predictor, parts, _Clock(start, budget_s))
        errors = attempts.search(first)
    else:  # each alone: a second run might find the rows changed by the network, for they are not copied
        attempts = _Attempts(predictor, parts, _Clock(start, budget_s))
        errors = attempts.run_each()
    return _with_errors(requests, errors), attempts.predicted()


class _Attempts:
    """Runs some requests of a batch and keeps their probabilities."""

    def __init__(self, predictor: Predictor, parts: Sequence[np.ndarray], in_time: "_Clock") -> None:
        self.predictor, self.parts, self.in_time = predictor, parts, in_time
        self.done: dict[int, np.ndarray] = {}

    def run(self, members: Sequence[int]) -> RequestError | None:
        """Predict these requests together; what fails is returned, and logged if it is the fault of one request."""
        failure: RequestError | None = None
        try:
            predicted = self.predictor.predict_together([self.parts[index] for index in members])
        except BaseException as error:
            failure = prediction_failed(error, alone=len(members) == 1)
        if failure is not None:
            _free_memory(failure)  # here, where the exception and with it the frames that hold tensors are gone
            return failure
        ends = np.cumsum([len(self.parts[index]) for index in members])
        self.done.update(zip(members, np.split(predicted, ends[:-1]), strict=True))
        return None

    def run_each(self) -> dict[int, RequestError]:
        """Predict each request alone: the error of each that fails, or for which there is no time left."""
        failures, late = {}, []
        for index in range(len(self.parts)):
            if index and not self.in_time():
                late.append(index)
            elif (failure := self.run([index])) is not None:
                failures[index] = failure
        return {**failures, **self._late(late)}

    def search(self, first: RequestError) -> dict[int, RequestError]:
        """The error of each request that fails, or that is not settled in time."""
        _free_memory(first)
        count = len(self.parts)
        culprits, late = find_culprits(
            count, self.run, first, lambda failure: isinstance(failure, OutOfMemoryError), self.in_time
        )
        if not late and not culprits:
            logger.warning("%d requests together failed with %s; in parts they did not", count, first.type)
        return {**culprits, **self._late(late)}

    def _late(self, members: Sequence[int]) -> dict[int, RequestError]:
        """The error of each request that there is no time for."""
        if not members:
            return {}
        count, budget_s = len(self.parts), self.in_time.budget_s
        logger.warning(
            "%d of %d requests were not predicted in %g s: others failed or took long", len(members), count, budget_s
        )
        message = "prediction: expected an answer in time, found requests of the same batch that fail or take long"
        return {index: UnavailableError(f"{message}; try again") for index in members}

    def predicted(self) -> np.ndarray:
        """The probabilities of all requests that succeeded, in order."""
        if not self.done:
            return np.empty((0, len(self.predictor.spec.classes)), np.float32)
        return np.concatenate([self.done[index] for index in sorted(self.done)])


class _Clock:
    """Whether there is time for another pass, if it takes as long as the longest so far.

    Args:
        start: when the first pass of the batch began, which counts.
        budget_s: seconds from then on.
    """

    def __init__(self, start: float, budget_s: float) -> None:
        self.budget_s = budget_s
        self.last, self.end, self.longest = start, start + budget_s, 0.0

    def __call__(self) -> bool:
        now = time.monotonic()
        self.longest, self.last = max(self.longest, now - self.last), now
        return now + self.longest < self.end


def _free_memory(failure: RequestError) -> None:
    if isinstance(failure, OutOfMemoryError) and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _with_errors(requests: Requests, errors: Mapping[int, RequestError]) -> Requests:
    """The requests, with these errors in place of decoded ones, which are counted without the wrong ones."""
    decoded = (index for index, request in enumerate(requests) if isinstance(request, DecodedRequest))
    places = list(decoded)
    replaced = list(requests)
    for index, error in errors.items():
        replaced[places[index]] = error
    return replaced
