"""Start a TorchServe and stop it, leaving nothing behind.

Every server has a run directory named after its port: configuration, temp directory, sockets, logs. So several servers
can share a machine, and `stop` finds the right one.
"""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from simplenet.errors import ServerError
from simplenet.manifest import read_manifest
from simplenet.server import processes, torchserve
from simplenet.server.frontend import limits_bodies
from simplenet.server.gpus import count_gpus, whole_number, workers_of
from simplenet.server.memory import offered_bytes, plan_memory
from simplenet.server.ports import check_ports
from simplenet.server.ready import writes_state
from simplenet.server.record import Server, find_to_stop, write_record
from simplenet.server.root_cause import root_cause
from simplenet.server.run_dir import claimed, tidy
from simplenet.settings import DEFAULT_PORT
from simplenet.signals import signals_deferred, signals_ignored

STOP_TIMEOUT_S = 20.0
DEFAULT_RESPONSE_TIMEOUT_S = 120  # TorchServe's, where a model-config has none


def start(
    archives: Mapping[str, Path],
    *,
    run_dir: Path,
    lock: int | None = None,
    port: int = DEFAULT_PORT,
    host: str = "127.0.0.1",
    workers: int | None = None,
) -> Server:
    """Start TorchServe with these archives, without waiting until it is ready.

    Args:
        archives: model name to the .mar file.
        run_dir: from `new_run_dir`.
        lock: descriptor of the lock on `run_dir`, from `new_run_dir`; the server holds it as long as it runs.
        port: for predictions; management, metrics and the two gRPC ports follow it.
        host: the address that predictions are served on.
        workers: per model; by default one per GPU that it may use, or one on the CPU.

    Raises:
        ServerError: Java is missing, a port is taken, or the server cannot be started.
    """
    java = torchserve.find_java()
    check_ports(port, host)
    manifests = {name: read_manifest(path) for name, path in archives.items()}
    settings = [manifest.settings for manifest in manifests.values()]
    gpus = count_gpus()
    model_workers = {name: workers_of(manifest.settings, workers, gpus) for name, manifest in manifests.items()}
    models = sum(path.stat().st_size for path in archives.values())
    memory = plan_memory(offered_bytes(), sum(model_workers.values()), torchserve.read_config(), models)
    numbers = {(name, manifests[name].version): number for name, number in model_workers.items()}
    config = torchserve.write_config(run_dir, archives, port, host, numbers, memory.max_request_size)
    least_delay = all(one.get("maxBatchDelay") == 1 for one in settings)
    options = [*memory.java_options(), f"-Dsimplenet.body.timeout={_body_timeout_s(settings)}"]
    command = torchserve.command(java, run_dir, config, least_delay, options)
    environment = torchserve.environment(run_dir, sum(model_workers.values()))
    memory_line = str(replace(memory, enforced=limits_bodies(run_dir)))
    silent_models = tuple(name for name, path in archives.items() if not writes_state(path))
    with _spawned(command, run_dir, environment, lock) as pid:
        server = Server(
            port=port,
            pid=pid,
            started=psutil.Process(pid).create_time(),
            models=tuple(archives),
            host=host,
            model_workers=model_workers,
            run_dir=run_dir,
            versions={name: manifest.version for name, manifest in manifests.items()},
            memory=memory_line,
            silent_models=silent_models,
            identity=processes.identity(pid),
            startup_timeout_s=max((whole_number(one, "startupTimeout") for one in settings), default=0),
        )
        write_record(server)
    return server


def _body_timeout_s(settings: Sequence[Mapping[str, Any]]) -> int:
    """How long a client that has left may wait for its response: once in the queue and once in the worker."""
    timeouts = (whole_number(one, "responseTimeout") or DEFAULT_RESPONSE_TIMEOUT_S for one in settings)
    return 2 * max(timeouts, default=DEFAULT_RESPONSE_TIMEOUT_S)


@contextmanager
def _spawned(command: Sequence[str], run_dir: Path, environment: Mapping[str, str], lock: int | None) -> Iterator[int]:
    """Start the frontend in its own session: Ctrl-C does not reach it, and its process group has every worker.

    If the body raises, the group is killed: without a record nobody could stop it.

    Returns:
        Its pid.
    """
    with (run_dir / "logs" / "console.log").open("wb") as console:
        process = subprocess.Popen(
            command, cwd=run_dir, env=environment, stdin=subprocess.DEVNULL, stdout=console, stderr=console,
            start_new_session=True, pass_fds=() if lock is None else (lock,),
        )  # fmt: skip
    try:
        yield process.pid
    except BaseException:
        processes.kill_group(process.pid)
        process.wait()
        raise


@contextmanager
def started(archives: Mapping[str, Path], **options: Any) -> Iterator[Server]:
    """`start` a server, and stop it if the body raises (within `signals_interrupt`, also on a signal)."""
    server: Server | None = None
    try:
        with signals_deferred():  # until `start` returns, the process could not be stopped
            server = start(archives, **options)
        yield server
    except BaseException:
        with signals_ignored():
            if server is not None:
                stop_server(server)
        raise


def stop(port: int) -> bool:
    """Stop the server on `port`; if it had died, remove its files and return False.

    Raises:
        ServerError: there is none, or one is starting.
    """
    server = find_to_stop(port)
    if server.process() is not None:
        stop_server(server)
        return True
    with claimed(port, server.run_dir.parent):
        stop_server(server)
    return False


def stop_server(server: Server, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """End the frontend and all its workers; keep the logs."""
    end_processes(server, timeout_s)
    tidy(server.run_dir)


def end_processes(server: Server, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """End the frontend and all its workers; keep every file."""
    frontend = server.process()
    if frontend is not None:
        members = processes.family(frontend)
        processes.terminate(frontend)
        processes.wait_for_all(members, timeout_s)
    survivors = processes.group(server.pid, str(server.run_dir))  # and workers that were started meanwhile
    if survivors:
        processes.kill_group(server.pid)
        processes.wait_for_all(survivors, timeout_s)


def wait_for_end(server: Server) -> None:
    """Wait until the server ends by itself; Ctrl-C interrupts the wait.

    Raises:
        ServerError: it ended.
    """
    while (process := server.process()) is not None:
        process.wait()
    raise ServerError(f"TorchServe ended by itself: {root_cause(server.logs)} (logs: {server.logs})")
