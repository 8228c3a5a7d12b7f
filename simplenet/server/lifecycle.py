"""Start a TorchServe and stop it, leaving nothing behind.

Every server has a run directory named after its port: configuration, temp directory, sockets, logs. So several servers
can share a machine, and `stop` finds the right one.
"""

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from simplenet.errors import ServerError
from simplenet.manifest import read_manifest
from simplenet.server import processes, torchserve
from simplenet.server.drain import CutOff, drain
from simplenet.server.frontend import is_own
from simplenet.server.gpus import count_gpus, workers_of
from simplenet.server.management import new_token
from simplenet.server.memory import given_bytes, offered_bytes, plan_memory
from simplenet.server.model_config import response_timeout_of, whole_number
from simplenet.server.ports import check_ports
from simplenet.server.ready import writes_state
from simplenet.server.record import Server, find_to_stop, is_record_of, write_record
from simplenet.server.run_dir import begin_stopping, claimed, tidy
from simplenet.settings import (
    DEFAULT_PORT,
    DEFAULT_RESPONSE_TIMEOUT_S,
    DRAIN_TIMEOUT_S,
    MAX_QUEUE_WAIT_S,
    RECOVERY_TIMEOUT_S,
)
from simplenet.signals import check_interrupted, signals_deferred, signals_ignored

STOP_TIMEOUT_S = 8.0  # then it is killed: nothing is in flight any more
SUPERVISOR = "simplenet.server.supervisor"  # the module that watches a detached server


def start(
    archives: Mapping[str, Path],
    *,
    run_dir: Path,
    lock: int | None = None,
    port: int = DEFAULT_PORT,
    host: str = "127.0.0.1",
    workers: int | None = None,
    max_queue_wait_s: float = MAX_QUEUE_WAIT_S,
    recovery_timeout_s: float = RECOVERY_TIMEOUT_S,
    drain_timeout_s: float = DRAIN_TIMEOUT_S,
) -> Server:
    """Start TorchServe with these archives, without waiting until it is ready.

    Args:
        archives: model name to the .mar file.
        run_dir: from `new_run_dir`.
        lock: descriptor of the lock on `run_dir`, from `new_run_dir`; the server holds it as long as it runs.
        port: for predictions; management, metrics and the two gRPC ports follow it.
        host: the address that predictions are served on.
        workers: per model; by default one per GPU that it may use, or one on the CPU.
        max_queue_wait_s: seconds after which a request that no worker has taken gets 503.
        recovery_timeout_s: seconds that a model may be without a worker before `supervise` ends the server.
        drain_timeout_s: seconds that stopping waits for the requests in flight.

    Raises:
        ServerError: Java is missing, a port is taken, or the server cannot be started.
    """
    java = torchserve.find_java()
    address = check_ports(port, host)
    manifests = {name: read_manifest(path) for name, path in archives.items()}
    settings = [manifest.settings for manifest in manifests.values()]
    gpus = count_gpus()
    model_workers = {name: workers_of(manifest.settings, workers, gpus) for name, manifest in manifests.items()}
    models = sum(model_workers[name] * path.stat().st_size for name, path in archives.items())
    memory = plan_memory(offered_bytes(), sum(model_workers.values()), torchserve.read_config(), models)
    numbers = {(name, manifests[name].version): number for name, number in model_workers.items()}
    config = torchserve.write_config(run_dir, archives, port, address, numbers, memory.max_request_size)
    least_delay = all(one.get("maxBatchDelay") == 1 for one in settings)
    response_timeout_s = _response_timeout_s(settings)
    options = [
        *memory.java_options(),
        f"-Dsimplenet.port={port}",
        f"-Dsimplenet.token={new_token(run_dir)}",
        f"-Dsimplenet.queue.wait.ms={round(1000 * max_queue_wait_s)}",
    ]
    command = torchserve.command(java, run_dir, config, least_delay, options)
    memory = replace(memory, enforced=is_own(run_dir))
    environment = torchserve.environment(run_dir, sum(model_workers.values())) | memory.environment()
    silent_models = tuple(name for name, path in archives.items() if not writes_state(path))
    with _spawned(command, run_dir, environment, lock) as pid:
        server = Server(
            port=port,
            pid=pid,
            started=psutil.Process(pid).create_time(),
            models=tuple(archives),
            host=host,
            address=address,
            model_workers=model_workers,
            run_dir=run_dir,
            versions={name: manifest.version for name, manifest in manifests.items()},
            memory=str(memory),
            memory_limit=given_bytes(),
            silent_models=silent_models,
            identity=processes.identity(pid),
            startup_timeout_s=max((whole_number(one, "startupTimeout") for one in settings), default=0),
            response_timeout_s=response_timeout_s,
            max_queue_wait_s=max_queue_wait_s,
            recovery_timeout_s=recovery_timeout_s,
            drain_timeout_s=drain_timeout_s,
        )
        write_record(server)
    return server


def _response_timeout_s(settings: Sequence[Mapping[str, Any]]) -> int:
    """The longest that any model gives a worker to respond."""
    return max(map(response_timeout_of, settings), default=DEFAULT_RESPONSE_TIMEOUT_S)


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
    check_interrupted()
    try:
        with signals_deferred():  # until `start` returns, the process could not be stopped
            server = start(archives, **options)
        yield server
    except BaseException:
        with signals_ignored():
            if server is not None:
                stop_server(server)
        raise


def stop(port: int, drain_timeout_s: float | None = None) -> CutOff | None:
    """Stop the server on `port`: finish what it has accepted, refuse what comes, end it.

    Args:
        port: of its predictions.
        drain_timeout_s: seconds to wait for the requests in flight; by default what `start` was told.

    Returns:
        What was cut off; None if the server had died, and only its files were removed.

    Raises:
        ServerError: there is none, or one is starting.
    """
    server = find_to_stop(port)
    if server.process() is not None:
        return stop_running(server, server.drain_timeout_s if drain_timeout_s is None else drain_timeout_s)
    with claimed(port, server.run_dir.parent):
        if is_record_of(server):
            stop_server(server)
    return None


def stop_running(server: Server, drain_timeout_s: float) -> CutOff:
    """Drain a running server and end it; return once its port can have another.

    Returns:
        What was cut off.
    """
    cut_off = drain(server, drain_timeout_s)
    end_processes(server)
    _tidy_when_free(server, STOP_TIMEOUT_S)
    _wait_for_supervisor(server, STOP_TIMEOUT_S)
    return cut_off


def _tidy_when_free(server: Server, timeout_s: float) -> None:
    """Remove the files of a server that has ended, unless whoever holds its folder does.

    A `serve` in the foreground does it itself, and is waited for; a new one on the port has removed them.
    """
    deadline = time.monotonic() + timeout_s
    while is_record_of(server) and time.monotonic() < deadline:
        with suppress(ServerError), claimed(server.port, server.run_dir.parent):
            if is_record_of(server):
                tidy(server.run_dir)
            return
        time.sleep(processes.POLL_S)


def stop_server(server: Server, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """End the frontend, all its workers and its supervisor at once; keep the logs.

    For whoever holds the lock on the run directory: another server could be starting there.
    """
    end_processes(server, timeout_s)
    tidy(server.run_dir)
    _wait_for_supervisor(server, timeout_s)


def _wait_for_supervisor(server: Server, timeout_s: float) -> None:
    processes.wait_for_all(processes.others_with(SUPERVISOR, str(server.run_dir)), timeout_s)


def end_processes(server: Server, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """End the frontend and all its workers at once; keep every file."""
    frontend = server.process()
    if frontend is not None:
        if not server.is_stopping:
            begin_stopping(server.run_dir)
        members = processes.family(frontend)
        processes.terminate(frontend)
        processes.wait_for_all(members, timeout_s)
    survivors = processes.group(server.pid, str(server.run_dir))  # and workers that were started meanwhile
    if survivors:
        processes.kill_group(server.pid)
        processes.wait_for_all(survivors, timeout_s)
