"""When a server is ready: every worker has written its state file, and the frontend responds.

The management API also reports readiness, but runs nvidia-smi for each worker in every call, which takes seconds on a
machine with eight GPUs. It is used only for archives that are older than the state files.
"""

import time
import zipfile
from pathlib import Path

import requests

from simplenet.errors import ServerError
from simplenet.server import management
from simplenet.server.disk import require_writable_disk
from simplenet.server.loopback import loopback_session
from simplenet.server.processes import is_in_group
from simplenet.server.record import Server
from simplenet.server.root_cause import load_failed, names_cause, root_cause
from simplenet.signals import check_interrupted
from simplenet.worker.state import WorkerState, read_all

READY_TIMEOUT_S = 120.0  # until the first worker is ready, and from each to the next
_POLL_S = 0.05
_DISK_PERIOD_S = 1.0
_PING_TIMEOUT_S = 5.0
_DESCRIBE_TIMEOUT_S = 60.0
_STATE_MODULE = "simplenet/worker/state.py"


def wait_until_ready(server: Server, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Wait until every worker of every model is verified and warm, and the frontend responds.

    Args:
        server: as `start` returned it.
        timeout_s: seconds in which one more worker must become ready; at least the startupTimeout of every model.

    Raises:
        ServerError: a worker cannot load, with the root cause; the disk is full; or the timeout is over.
    """
    timeout_s = max(timeout_s, server.startup_timeout_s)
    deadline, ready, next_probe = time.monotonic() + timeout_s, 0, 0.0
    with loopback_session() as session:
        while not _is_ready(server, session):
            check_interrupted()
            if (now_ready := len(living_workers(server))) > ready:
                deadline, ready = time.monotonic() + timeout_s, now_ready
            if time.monotonic() >= next_probe:
                require_writable_disk(server.run_dir)
                next_probe = time.monotonic() + _DISK_PERIOD_S
            failed = load_failed(server.logs)
            ended = server.process() is None
            late = time.monotonic() > deadline
            if failed or ended or late:
                if failed:
                    _wait_for_quiet(server.logs / "model_log.log")
                cause = root_cause(server.logs, server.models)
                reason = (
                    "the model cannot be loaded" if failed else "TorchServe ended" if ended else "not ready in time"
                )
                raise ServerError(f"{reason}: {cause} (logs: {server.logs})")
            time.sleep(_POLL_S)


def living_workers(server: Server) -> list[WorkerState]:
    """The states of the running workers.

    A worker is in the frontend's process group: another process that has the pid of a dead worker is not counted.
    """
    return [state for state in read_all(server.states) if is_in_group(state.pid, server.pid)]


def writes_state(archive: Path) -> bool:
    """Whether a worker of this archive writes a state file; the library in an old archive does not."""
    with zipfile.ZipFile(archive) as contents:
        return _STATE_MODULE in contents.namelist()


def _is_ready(server: Server, session: requests.Session) -> bool:
    # A worker writes its state shortly before the frontend learns that it has loaded. A request in between waits in the
    # model's queue, which exists before the port is opened.
    states = living_workers(server)
    for model, workers in server.model_workers.items():
        if model in server.silent_models:
            if not _is_described_as_ready(server, model, workers):
                return False
        elif sum((state.model, state.version) == (model, server.versions[model]) for state in states) < workers:
            return False
    return _responds(server, session)


def _responds(server: Server, session: requests.Session) -> bool:
    """Whether the frontend responds at all; the response itself is only about the frontend."""
    try:
        session.get(f"{server.loopback_url}/ping", timeout=_PING_TIMEOUT_S)
    except requests.RequestException:
        return False
    return True


def _is_described_as_ready(server: Server, model: str, workers: int) -> bool:
    try:
        versions = management.request(server, "GET", f"/models/{model}/all", _DESCRIBE_TIMEOUT_S)
    except ServerError:
        return False
    return bool(versions) and all(
        len(version["workers"]) >= workers and all(w["status"] == "READY" for w in version["workers"])
        for version in versions
    )


def _wait_for_quiet(log: Path, quiet_s: float = 0.3, begin_s: float = 5.0) -> None:
    """Wait until a worker's traceback is completely written.

    The frontend may say that a worker died before it has passed on what the worker wrote.
    """
    begin = time.monotonic() + begin_s
    while not names_cause(log) and time.monotonic() < begin:
        time.sleep(_POLL_S)
    size, since = -1, time.monotonic()
    while time.monotonic() - since < quiet_s:
        now = log.stat().st_size if log.is_file() else 0
        if now != size:
            size, since = now, time.monotonic()
        time.sleep(_POLL_S)
