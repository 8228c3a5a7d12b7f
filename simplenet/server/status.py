"""What `simplenet status` says about the servers of this user."""

import shlex
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from simplenet.errors import ServerError
from simplenet.server.lifecycle import SUPERVISOR
from simplenet.server.ready import living_workers
from simplenet.server.record import Server, find, find_all
from simplenet.server.run_dir import RECORD
from simplenet.server.supervisor import LOG

_UNWATCHED_S = 30.0  # a look that waits for every time-out takes less


@dataclass(frozen=True)
class Status:
    """One server that was started and not stopped."""

    port: int
    running: bool  # False: it has died; `simplenet stop` removes what it left
    stopping: bool  # it answers what it has accepted and refuses what comes
    watched: bool  # False: its supervisor has died, so nobody ends it when it cannot recover
    pid: int
    models: dict[str, str]  # name to version
    workers: int  # that are ready
    expected_workers: int  # of the models whose workers report; those of very old archives do not
    since: str  # ISO 8601, UTC
    url: str
    logs: str


def status_of(server: Server) -> Status:
    """The status of a server, by its record, its processes and its workers' state files.

    Example:
        >>> [status_of(server).port for server in find_all()[0]]  # doctest: +SKIP
        [8080]
    """
    expected = sum(number for name, number in server.model_workers.items() if name not in server.silent_models)
    since = datetime.fromtimestamp(server.started, timezone.utc)
    return Status(
        port=server.port,
        running=server.process() is not None,
        stopping=server.is_stopping,
        watched=_is_watched(server),
        pid=server.pid,
        models={name: server.versions.get(name, "") for name in server.models},
        workers=len(living_workers(server)),
        expected_workers=expected,
        since=since.replace(tzinfo=None).isoformat(timespec="seconds"),
        url=server.url,
        logs=str(server.logs),
    )


def how_to_watch(status: Status) -> str:
    """How to watch a server whose supervisor has died, in one line."""
    logs = Path(status.logs)
    command = [sys.executable, "-m", SUPERVISOR, str(status.port), str(logs.parent)]
    return (
        f"port {status.port}: nobody ends this server when it cannot recover; to watch it again: "
        f"nohup {shlex.join(command)} >> {shlex.quote(str(logs / LOG))} 2>&1 &"
    )


def _is_watched(server: Server) -> bool:
    """Whether the supervisor has looked lately: then it has touched the record, unless the server is stopping."""
    with suppress(OSError):
        return server.is_stopping or time.time() - (server.run_dir / RECORD).stat().st_mtime < _UNWATCHED_S
    return False


def status_of_port(port: int) -> list[Status]:
    """The status of the server on the port.

    Raises:
        ServerError: there is none, or its record cannot be read.
    """
    return [status_of(find(port))]


def status_of_all() -> tuple[list[Status], list[ServerError]]:
    """The status of every server of this user, and an error for each record that cannot be read."""
    servers, errors = find_all()
    return [status_of(server) for server in servers], errors
