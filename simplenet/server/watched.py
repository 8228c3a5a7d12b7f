"""One model under the eyes of the supervisor: does it have a worker, and does that make progress?

Three signs, the cheapest first: the workers' state files, which they touch after a batch; a real prediction; what
TorchServe says about the model. The last is asked only where a worker is missed: it also knows what an operator did on
purpose, past `deploy`. A model that was scaled to no workers, or unregistered, is not broken.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from simplenet.errors import ServerError
from simplenet.server import management
from simplenet.server.processes import is_in_group
from simplenet.server.record import Server
from simplenet.worker.state import WorkerState

_FULL = ("connections: ", "body: ")  # how a 503 begins that says nothing about the workers (java/)


@dataclass
class WatchedModel:
    """What was last seen of one model; times are of the supervisor's clock."""

    name: str
    alive: float  # when it last had a worker, or responded
    progress: float  # when it last responded, or a worker finished a batch
    next_probe: float = 0.0  # not before: a worker may be at a request that takes long
    workers: dict[int, str] = field(default_factory=dict)  # the version of each, by pid
    working: tuple[int, ...] = ()  # those of the live version
    touched: dict[int, float] = field(default_factory=dict)  # when each wrote its state file, as the file says
    touches: bool = False  # whether a worker has done that after a batch: those of an older library do not
    wanted: bool = True  # False: an operator scaled it to no workers

    def see_workers(self, states: Iterable[WorkerState], live: str | None) -> list[str]:
        """Note the workers that run; what changed, in words.

        Args:
            states: of all running workers of the server.
            live: the version that predictions without one go to.
        """
        workers = {state.pid: state.version for state in states if state.model == self.name}
        ended = [f"{self.workers[pid]}: worker {pid} ended" for pid in self.workers.keys() - workers.keys()]
        came = [f"{workers[pid]}: worker {pid} is ready" for pid in workers.keys() - self.workers.keys()]
        self.workers = workers
        self.working = tuple(pid for pid, version in workers.items() if version == live)
        return [f"{self.name} {change}" for change in ended + came]

    def finished_a_batch(self, folder: Path) -> bool:
        """Whether a worker of the live version did so since the last look: then it has touched its state file."""
        finished = False
        for pid in self.working:
            with suppress(OSError):
                touched = (folder / f"{pid}.json").stat().st_mtime
                finished = touched != self.touched.get(pid, touched) or finished
                self.touched[pid] = touched
        self.touches = self.touches or finished
        return finished


class Samples:
    """A valid request for each model, read once: the files may go while the server runs."""

    def __init__(self) -> None:
        self._read: dict[tuple[str, str, str | None], tuple[str, bytes]] = {}

    def of(self, server: Server, model: str) -> tuple[str, bytes] | None:
        """The Content-Type and the body for the live version of a model; None if none can be read."""
        kind, file = server.samples.get(model, ("", ""))
        key = model, file, server.versions.get(model)
        if file and key not in self._read:
            with suppress(OSError):
                self._read[key] = kind, Path(file).read_bytes()
        return self._read.get(key)


def probe(
    server: Server, session: requests.Session, model: str, sample: tuple[str, bytes], timeout_s: float
) -> bool | None:
    """Send one real request; whatever a worker responds shows that it is alive.

    Returns:
        Whether a worker responded; None if nothing came in time, and one may be at work.
    """
    content_type, body = sample
    try:
        response = session.post(
            f"{server.loopback_url}/predictions/{model}",
            data=body, headers={"Content-Type": content_type}, timeout=timeout_s,
        )  # fmt: skip
    except requests.Timeout:
        return None
    except OSError:
        return False
    # Where the frontend has no room even for the request, its response cannot be missed.
    is_full = str(response.text).partition('"message":"')[2].startswith(_FULL)
    return is_full or response.status_code not in (requests.codes.unavailable, requests.codes.not_found)


def registered_models(server: Server, timeout_s: float) -> set[str]:
    """The models that TorchServe has, whether they have workers or not.

    Raises:
        ServerError: the frontend does not respond.
    """
    page = management.request(server, "GET", "/models", timeout_s, limit=10**6)
    return {listed["modelName"] for listed in page["models"]}


@dataclass(frozen=True)
class Description:
    """What TorchServe says about the live version of a model."""

    workers_wanted: int  # how many it starts, and starts again
    ready: tuple[int, ...]  # the pids of those that run and have loaded the model


def describe(server: Server, model: str) -> Description | None:
    """Describe the live version of a model; None if TorchServe does not say.

    TorchServe runs nvidia-smi for each worker that has a GPU.
    """
    try:
        described: dict[str, Any] = management.request(server, "GET", f"/models/{model}")[0]
        workers = [int(worker["pid"]) for worker in described["workers"] if worker["status"] == "READY"]
        ready = tuple(pid for pid in workers if pid > 0 and is_in_group(pid, server.pid))
        return Description(int(described["minWorkers"]), ready)
    except (ServerError, LookupError, TypeError, ValueError):
        return None
