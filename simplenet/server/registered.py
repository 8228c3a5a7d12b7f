"""The versions of models that a running TorchServe has: register, try, make the default, let finish, remove.

Registering, set-default and unregistering are TorchServe's own; what it says about when they are finished is not enough
to lose no request. https://github.com/pytorch/serve/blob/master/docs/management_api.md
"""

import time
from typing import Any

from simplenet.errors import ServerError
from simplenet.server import frontend
from simplenet.server.candidate import Candidate
from simplenet.server.management import request
from simplenet.server.model_config import whole_number
from simplenet.server.quiet import quiet
from simplenet.server.ready import READY_TIMEOUT_S, living_workers, writes_state
from simplenet.server.record import Server
from simplenet.server.root_cause import NO_MESSAGE, died_silently, failure_since, log_sizes

_POLL_S = 0.1
_QUIET_S = 0.5  # that a version has no request: the frontend counts one only once it is in the queue
_LOG_S = 5.0  # by then the frontend has passed on what a worker wrote before it died
_LOG_APART_S = 0.3
_MOST_DEATHS = 3  # of workers that say nothing; one that says why it cannot load would say so again
_DEFAULT_DELAY_MS = 100  # TorchServe's maxBatchDelay, where a model-config has none


def versions_of(server: Server, model: str) -> list[str]:
    """The versions of a model that TorchServe has; empty if it has none."""
    if not _has(server, model):
        return []
    return [described["modelVersion"] for described in request(server, "GET", f"/models/{model}/all", READY_TIMEOUT_S)]


def default_version(server: Server, model: str) -> str | None:
    """The version that predictions without one go to; None if the model is not served."""
    if not _has(server, model):
        return None
    return str(request(server, "GET", f"/models/{model}", READY_TIMEOUT_S)[0]["modelVersion"])


def bring_up(server: Server, candidate: Candidate) -> None:
    """Register the version, wait until every worker of it is verified and warm, and predict with it.

    Raises:
        ServerError: it cannot be served, with the root cause. It may be registered.
    """
    since = log_sizes(server.logs)
    query: dict[str, Any] = {
        "url": candidate.file, "model_name": candidate.archive.model_name, "initial_workers": candidate.workers,
        "synchronous": "false", **_batch_delay(server, candidate.archive.settings),
    }  # fmt: skip
    request(server, "POST", "/models", READY_TIMEOUT_S, **query)
    wait_until_served(server, candidate, since)


def wait_until_served(server: Server, candidate: Candidate, since: dict[str, int]) -> None:
    """Wait until every worker of a registered version is ready, then compare one real prediction.

    Args:
        server: a running one.
        candidate: registered.
        since: the `log_sizes` before it was registered.

    Raises:
        ServerError: a worker cannot load, is not ready in time, or predicts something else than the golden samples.
    """
    archive = candidate.archive
    thread = f"{archive.model_name}_{archive.version}"
    timeout_s = max(READY_TIMEOUT_S, whole_number(archive.settings, "startupTimeout"))
    deadline, ready, silent = time.monotonic() + timeout_s, 0, not writes_state(archive.path)
    deaths = 0
    while (now_ready := _ready_workers(server, candidate, silent)) < candidate.workers:
        if cause := _failure_in_full(server, since, thread):
            deaths += 1
            if deaths < _MOST_DEATHS and died_silently(server.logs, since, thread):
                since, deadline = log_sizes(server.logs), time.monotonic() + timeout_s
                continue  # killed, perhaps: TorchServe starts another
            raise ServerError(f"{candidate.name}: the model cannot be loaded: {cause} (logs: {server.logs})")
        if server.process() is None:
            raise ServerError(f"{candidate.name}: TorchServe ended meanwhile (logs: {server.logs})")
        if now_ready > ready:
            deadline, ready = time.monotonic() + timeout_s, now_ready
        if time.monotonic() > deadline:
            raise ServerError(
                f"{candidate.name}: expected {candidate.workers} ready workers, found {now_ready} after "
                f"{timeout_s:.0f} s (logs: {server.logs})"
            )
        time.sleep(_POLL_S)
    from simplenet.server.trial import try_version  # needs torch, whose import takes seconds

    try_version(server, candidate.archive)


def set_default(server: Server, model: str, version: str) -> None:
    """Send every request that names no version to this one, from now on."""
    request(server, "PUT", f"/models/{model}/{version}/set-default")


def unregister(server: Server, model: str, version: str) -> None:
    """Remove a version at once, with its workers; a request that waits for it or is in their hands is lost."""
    request(server, "DELETE", f"/models/{model}/{version}", READY_TIMEOUT_S)


def finish_requests(server: Server, model: str, version: str, patience_s: float | None = None) -> bool:
    """Wait until a version that is no longer the default has answered all its requests.

    Args:
        server: a running one.
        model: its name.
        version: no longer the default.
        patience_s: seconds to wait; by default as long as a request may take.

    Returns:
        Whether it has; False when requests still came, because clients name this version.
    """
    if patience_s is None:
        patience_s = _longest_request_s(server, model, version)
    return quiet(lambda: _requests_of(server, model, version), patience_s, _QUIET_S, _POLL_S) == 0


def _failure_in_full(server: Server, since: dict[str, int], thread: str) -> str | None:
    """`failure_since`, once the cause is completely written.

    The frontend may say that a worker died before it has passed on what the worker wrote.
    """
    cause, deadline = failure_since(server.logs, since, thread), time.monotonic() + _LOG_S
    while cause is not None and time.monotonic() < deadline:
        time.sleep(_LOG_APART_S)
        before, cause = cause, failure_since(server.logs, since, thread)
        if cause == before != NO_MESSAGE:
            break
    return cause


def _has(server: Server, model: str) -> bool:
    page = request(server, "GET", "/models", limit=10**6)
    return any(listed["modelName"] == model for listed in page["models"])


def _longest_request_s(server: Server, model: str, version: str) -> float:
    """How long a request to a version may take; the record has not seen one that never became live."""
    described = request(server, "GET", f"/models/{model}/{version}", READY_TIMEOUT_S)[0]
    return max(server.response_timeout_s, float(described["responseTimeout"])) + server.max_queue_wait_s


def _requests_of(server: Server, model: str, version: str) -> int:
    """Requests that wait for a version or are in its workers' hands: the frontend (java/Management) counts both."""
    counts = request(server, "GET", f"/requests/{model}/{version}")
    return int(counts["queued"]) + int(counts["working"])


def _batch_delay(server: Server, settings: dict[str, Any]) -> dict[str, int]:
    """The maxBatchDelay to register with, where the frontend takes the archive's own milliseconds for microseconds."""
    delay_ms = whole_number(settings, "maxBatchDelay") or _DEFAULT_DELAY_MS
    if delay_ms == 1 or frontend.in_use(server.run_dir) != "fast":
        return {}
    return {"max_batch_delay": 1000 * delay_ms}


def _ready_workers(server: Server, candidate: Candidate, silent: bool) -> int:
    archive = candidate.archive
    if silent:  # the library in it is older than the workers' state files
        described = request(server, "GET", candidate.path, READY_TIMEOUT_S)[0]
        return sum(worker["status"] == "READY" for worker in described["workers"])
    states = [
        state for state in living_workers(server)
        if (state.model, state.version) == (archive.model_name, archive.version)
    ]  # fmt: skip
    for state in states:
        if state.content_hash != candidate.content_hash:
            raise ServerError(
                f"{candidate.name}: expected workers with content hash {candidate.content_hash[:12]}, "
                f"found {state.content_hash[:12]}"
            )
    return len(states)
