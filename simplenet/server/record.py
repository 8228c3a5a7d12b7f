"""A running server, and its record in the run directory, where `stop` finds it."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import psutil

from simplenet.atomic import atomic_write
from simplenet.errors import ServerError
from simplenet.server.disk import naming
from simplenet.server.json_fields import from_json
from simplenet.server.processes import find_process, identity, own_command_lines
from simplenet.server.run_dir import ENDED, RECORD, STATES, STOPPING, is_owned, run_roots
from simplenet.settings import DEFAULT_RESPONSE_TIMEOUT_S, DRAIN_TIMEOUT_S, MAX_QUEUE_WAIT_S, RECOVERY_TIMEOUT_S
from simplenet.text import first_line, quoted

_FRONTEND = "org.pytorch.serve.ModelServer"  # the class that Java runs
_PIDS = 2**31
_YEAR_10000 = 253402300800.0  # in seconds of the wall clock: the first that a date cannot be made of


@dataclass(frozen=True)
class Server:
    """A running server: its ports are `port` to `port + 4`, in the order of PORT_NAMES.

    Another version of this library may read the record: a field added here has a default.
    """

    port: int
    pid: int
    started: float  # the process's creation time, in seconds of the wall clock
    models: tuple[str, ...]
    host: str = "127.0.0.1"
    model_workers: dict[str, int] = field(default_factory=dict)  # of each model
    run_dir: Path = field(default_factory=Path)
    versions: dict[str, str] = field(default_factory=dict)  # of each model
    memory: str = ""  # the memory plan in one line
    silent_models: tuple[str, ...] = ()  # archives older than the workers' state files
    startup_timeout_s: float = 0.0  # the longest that a profile gives a worker to load
    response_timeout_s: float = DEFAULT_RESPONSE_TIMEOUT_S  # the longest that a profile gives a worker to respond
    max_queue_wait_s: float = MAX_QUEUE_WAIT_S  # how long a request may wait for a worker
    recovery_timeout_s: float = RECOVERY_TIMEOUT_S  # how long a model may be without a worker
    drain_timeout_s: float = DRAIN_TIMEOUT_S  # how long stopping waits for requests in flight
    start_up_s: float = 0.0  # how long it took to become ready
    address: str = ""  # that the host's name stood for at the start: a name server may fail later
    samples: dict[str, tuple[str, str]] = field(default_factory=dict)  # the Content-Type and file of a valid request
    identity: str = ""  # of the process, so that a recycled pid is not mistaken for it; empty in an old record
    memory_limit: int = 0  # bytes that SIMPLENET_MEMORY gave it; 0 if it was not set

    @property
    def url(self) -> str:
        """The address of predictions."""
        return f"http://{self.host}:{self.port}"

    @property
    def loopback_url(self) -> str:
        """The address of predictions from this machine."""
        address = self.address or self.host
        return f"http://{'127.0.0.1' if address == '0.0.0.0' else address}:{self.port}"

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
        return (self.run_dir / STOPPING).exists()

    @property
    def states(self) -> Path:
        """The folder of the workers' state files."""
        return self.run_dir / STATES

    def process(self) -> psutil.Process | None:
        """The frontend's process while it runs, else None."""
        return find_process(self.pid, self.started, self.identity)


def write_record(server: Server) -> None:
    """Write the record into the server's run directory."""
    with naming(server.run_dir / RECORD), atomic_write(server.run_dir / RECORD) as file:
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
        ServerError: there is none, or its record cannot be read.
    """
    return _found(port, read_record)


def find_to_stop(port: int) -> Server:
    """`find`; a record that cannot be read is replaced by what the processes of the run directory say.

    Raises:
        ServerError: there is none.
    """
    return _found(port, _read_or_rebuilt)


def find_all() -> tuple[list[Server], list[ServerError]]:
    """Every server of this user that was not stopped, by port, and an error for each record that cannot be read."""
    folders = [folder for root in run_roots() if is_owned(root) for folder in root.iterdir() if _holds_record(folder)]
    servers, errors = [], []
    for folder in dict.fromkeys([*folders, *_run_dirs_in_use()]):
        try:
            servers.append(read_record(folder))
        except ServerError as error:
            errors.append(error)
    return sorted(servers, key=lambda server: server.port), errors


def _found(port: int, read: Callable[[Path], Server]) -> Server:
    """The running server on the port, else the first dead one."""
    found = [read(root / str(port)) for root in run_roots() if is_owned(root) and _holds_record(root / str(port))]
    if not any(server.process() for server in found):
        # Started while XDG_STATE_HOME, HOME or TMPDIR had another value.
        found += [read(folder) for folder in _run_dirs_in_use() if folder.name == str(port)]
    if not found:
        raise ServerError(
            f"no server that was started here runs on port {port} (simplenet status lists all){_why_it_ended(port)}"
        )
    return next((server for server in found if server.process()), found[0])


def _why_it_ended(port: int) -> str:
    """What the supervisor of the last server on the port wrote, if that ended by itself."""
    for root in run_roots():
        ended = root / str(port) / ENDED
        if ended.is_file() and is_owned(root):
            return f"; the last one ended: {ended.read_text()}"
    return ""


def _holds_record(folder: Path) -> bool:
    return folder.name.isdecimal() and (folder / RECORD).is_file()


def read_record(folder: Path) -> Server:
    """The record in a run directory.

    Raises:
        ServerError: there is none, or it cannot be read.
    """
    try:
        values = orjson.loads((folder / RECORD).read_bytes())
        server = from_json(Server, values)
        _require_possible(server, values, folder)
    except (OSError, ValueError) as error:
        raise ServerError(
            f"{folder / RECORD}: expected the record of a server, found {first_line(error)}; if that stays so for "
            f"some seconds, end and remove what is there: simplenet stop --port {folder.name}"
        ) from error
    return server


def _require_possible(server: Server, values: dict[str, Any], folder: Path) -> None:
    """Check what the types of the fields do not say.

    Raises:
        ValueError: it is no record of a server in this folder.
    """
    if not 0 < server.pid < _PIDS:
        raise ValueError(f"pid {server.pid}")
    if not 0 <= server.started < _YEAR_10000:
        raise ValueError(f"started {server.started}")
    if str(server.port) != folder.name:
        raise ValueError(f"port {server.port}")
    if server.run_dir.resolve() != folder.resolve():  # another folder's, whose processes `stop` would end
        raise ValueError(f"run_dir {str(server.run_dir)!r}")
    if "versions" in values and (missing := set(server.models) - set(server.versions)):
        raise ValueError(f"versions without {quoted(sorted(missing))}")


def is_record_of(server: Server) -> bool:
    """Whether the record in the server's run directory is its own, or nobody's, and not that of a later server there.

    Whoever holds the lock on the folder may then remove the files.
    """
    try:
        return read_record(server.run_dir).pid == server.pid
    except ServerError:
        return True


def _read_or_rebuilt(folder: Path) -> Server:
    try:
        return read_record(folder)
    except ServerError:
        leader = next(_leaders(folder), None)
        nobody = Server(int(folder.name), 0, 0.0, (), run_dir=folder, identity="none")
        return nobody if leader is None else replace(nobody, pid=leader, identity=_identity(leader))


def _identity(pid: int) -> str:
    try:
        return identity(pid)
    except psutil.NoSuchProcess:
        return "none"  # it has ended; its workers may run on


def _run_dirs_in_use() -> Iterator[Path]:
    """The run directories of all frontends that run."""
    for _, command in own_command_lines():
        if _FRONTEND in command and "-f" in command[:-1]:
            folder = Path(command[command.index("-f") + 1]).parent
            if _holds_record(folder) and is_owned(folder):
                yield folder


def _leaders(folder: Path) -> Iterator[int]:
    """The process groups of the server in this run directory: of processes that were started with its files.

    A reader of its logs, say, also names the folder, but not like this, and does not lead a session.
    """
    for pid, command in own_command_lines():
        frontend = _FRONTEND in command and str(folder / "config.properties") in command
        worker = any(argument.startswith(str(folder / "tmp" / ".ts.sock")) for argument in command)
        with suppress(ProcessLookupError):
            if (frontend or worker) and os.getpgid(pid) == os.getsid(pid):
                yield os.getpgid(pid)
