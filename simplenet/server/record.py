"""A running server, and its record in the run directory, where `stop` finds it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import orjson
import psutil

from simplenet.atomic import atomic_write
from simplenet.errors import ServerError
from simplenet.server.processes import find_process
from simplenet.server.run_dir import ENDED, RECORD, STATES, STOPPING, is_owned, run_root
from simplenet.settings import DRAIN_TIMEOUT_S, MAX_QUEUE_WAIT_S, RECOVERY_TIMEOUT_S


@dataclass(frozen=True)
class Server:
    """A running server: its ports are `port` to `port + 4`, in the order of PORT_NAMES.

    Another version of this library may read the record: a field added here has a default.
    """

    port: int
    pid: int
    started: float  # the process's creation time, so that a recycled pid is not mistaken for it
    models: tuple[str, ...]
    host: str = "127.0.0.1"
    model_workers: dict[str, int] = field(default_factory=dict)  # of each model
    run_dir: Path = field(default_factory=Path)
    versions: dict[str, str] = field(default_factory=dict)  # of each model
    memory: str = ""  # the memory plan in one line
    silent_models: tuple[str, ...] = ()  # archives older than the workers' state files
    startup_timeout_s: float = 0.0  # the longest that a profile gives a worker to load
    response_timeout_s: float = 120.0  # the longest that a profile gives a worker to respond
    max_queue_wait_s: float = MAX_QUEUE_WAIT_S  # how long a request may wait for a worker
    recovery_timeout_s: float = RECOVERY_TIMEOUT_S  # how long a model may be without a worker
    drain_timeout_s: float = DRAIN_TIMEOUT_S  # how long stopping waits for requests in flight
    samples: dict[str, tuple[str, str]] = field(default_factory=dict)  # the Content-Type and file of a valid request

    @property
    def url(self) -> str:
        """The address of predictions."""
        return f"http://{self.host}:{self.port}"

    @property
    def loopback_url(self) -> str:
        """The address of predictions from this machine."""
        return f"http://{'127.0.0.1' if self.host == '0.0.0.0' else self.host}:{self.port}"

    @property
    def workers(self) -> str:
        """How many workers the models have, in words: "2 a model", or "net 2, other 1" where they differ."""
        numbers = set(self.model_workers.values())
        if len(numbers) == 1:
            return f"{numbers.pop()} a model"
        return ", ".join(f"{model} {number}" for model, number in self.model_workers.items())

    @property
    def management_url(self) -> str:
        """The address at which models are described and scaled; on this machine only."""
        return f"http://127.0.0.1:{self.port + 1}"

    @property
    def logs(self) -> Path:
        """The folder of this run's logs."""
        return self.run_dir / "logs"

    @property
    def is_stopping(self) -> bool:
        """Whether somebody has asked the server to stop: its end is no failure."""
        return not (self.run_dir / RECORD).is_file() or (self.run_dir / STOPPING).exists()

    @property
    def states(self) -> Path:
        """The folder of the workers' state files."""
        return self.run_dir / STATES

    def process(self) -> psutil.Process | None:
        """The frontend's process while it runs, else None."""
        return find_process(self.pid, self.started)


def write_record(server: Server) -> None:
    """Write the record into the server's run directory."""
    with atomic_write(server.run_dir / RECORD) as file:
        file.write(orjson.dumps(asdict(server), default=str))


def with_samples(server: Server, samples: Mapping[str, tuple[str, Path]]) -> Server:
    """Record a valid request for each model, which whoever watches the server sends.

    Args:
        server: a running one.
        samples: model name to the Content-Type and the file with the body.
    """
    recorded = replace(server, samples={model: (kind, str(file)) for model, (kind, file) in samples.items()})
    write_record(recorded)
    return recorded


def find(port: int) -> Server:
    """The server that was started on `port` and was not stopped; it may have died.

    Raises:
        ServerError: there is none.
    """
    file = run_root() / str(port) / RECORD
    if not (file.is_file() and is_owned(run_root())):
        ended = file.with_name(ENDED)
        why = f"; the last one ended: {ended.read_text()}" if ended.is_file() and is_owned(run_root()) else ""
        raise ServerError(f"no server that was started here runs on port {port}{why}")
    known = {each.name for each in fields(Server)}
    values = {name: value for name, value in orjson.loads(file.read_bytes()).items() if name in known}
    lists = {name: tuple(values[name]) for name in ("models", "silent_models") if name in values}
    samples = {model: (kind, file) for model, (kind, file) in values.get("samples", {}).items()}
    return Server(**{**values, **lists, "samples": samples, "run_dir": Path(values["run_dir"])})
