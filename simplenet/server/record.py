"""A running server, and its record in the run directory, where `stop` finds it."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import orjson
import psutil

from simplenet.atomic import atomic_write
from simplenet.errors import ServerError
from simplenet.server.processes import find_process
from simplenet.server.run_dir import RECORD, STATES, is_owned, run_root


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
    startup_timeout_s: float = 0.0  # the longest that a profile gives a worker

    @property
    def url(self) -> str:
        """The address of predictions."""
        return f"http://{self.host}:{self.port}"

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


def find(port: int) -> Server:
    """The server that was started on `port` and was not stopped; it may have died.

    Raises:
        ServerError: there is none.
    """
    file = run_root() / str(port) / RECORD
    if not (file.is_file() and is_owned(run_root())):
        raise ServerError(f"no server that was started here runs on port {port}")
    known = {each.name for each in fields(Server)}
    values = {name: value for name, value in orjson.loads(file.read_bytes()).items() if name in known}
    lists = {name: tuple(values[name]) for name in ("models", "silent_models") if name in values}
    return Server(**{**values, **lists, "run_dir": Path(values["run_dir"])})
