"""The `simplenet` command, forked from a process that has imported torch: each import takes a second of a processor.

The process has imported only what other projects wrote, nothing of simplenet. Each command is a process of its own as
ever, with its own arguments, environment, folder, output and exit code.
"""

import functools
import gc
import importlib
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

COMMAND = Path(sys.executable).with_name("simplenet")
IMPORTS = (
    *("numpy", "orjson", "PIL.Image", "psutil", "requests", "rich.progress", "rich.table", "safetensors", "simdjson"),
    *("torch", "torch._dynamo", "typer", "typer.rich_utils", "yaml"),
)
LARGEST_ORDER = 1 << 17
FOLDER = os.environ.get("XDG_STATE_HOME")  # of the whole session; a test may set another for itself


class WarmProcess:
    """The process that forks the commands; it ends with the one that started it."""

    def __init__(self) -> None:
        self._address = Path(tempfile.mkdtemp(prefix="simplenet-", dir=FOLDER)) / "commands"
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(self._address))
            listener.listen()
            command = [sys.executable, __file__, str(listener.fileno())]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[listener.fileno()]
            )

    def run(
        self, arguments: Sequence[str], folder: Path, environment: dict[str, str], timeout_s: float
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end.

        Raises:
            TimeoutExpired: it is not at its end by then, or somebody still holds its output; it is killed.
        """
        deadline = time.monotonic() + timeout_s
        order = {"arguments": [str(COMMAND), *arguments], "folder": str(folder), "environment": environment}
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(self._address))
            reading, writing = zip(os.pipe(), os.pipe(), strict=True)
            socket.send_fds(connection, [json.dumps(order).encode()], writing)
            for descriptor in writing:
                os.close(descriptor)
            pid = int(connection.recv(64))
            try:
                output, errors = (text.decode() for text in _read_all(reading, deadline))
                code = int(connection.recv(64))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(order["arguments"], timeout_s) from None
        return subprocess.CompletedProcess(order["arguments"], code, output, errors)

    def end(self) -> None:
        """End the process; commands that run are not touched."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@functools.cache
def warm_process() -> WarmProcess:
    """The one of this process."""
    return WarmProcess()


def end_warm_process() -> None:
    """End it, if it was started."""
    if warm_process.cache_info().currsize:
        warm_process().end()
        warm_process.cache_clear()


def _read_all(descriptors: Sequence[int], deadline: float) -> list[bytes]:
    """What comes from each until its end.

    Raises:
        TimeoutError: one does not end by then.
    """
    contents = dict.fromkeys(descriptors, b"")
    with selectors.DefaultSelector() as selector:
        for descriptor in descriptors:
            selector.register(descriptor, selectors.EVENT_READ)
        try:
            while selector.get_map():
                for key, _ in (ready := selector.select(max(0, deadline - time.monotonic()))):
                    if piece := os.read(key.fd, 1 << 16):
                        contents[key.fd] += piece
                    else:
                        selector.unregister(key.fd)
                if not ready:
                    raise TimeoutError
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
    return list(contents.values())


def _wait_for_order(listener: socket.socket) -> None:
    """Fork for each order that comes until standard input ends; returns only in a command's own process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for the commands and for pytest, not for this process
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait for the commands
    while listener in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        if not os.fork():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            message, descriptors, _, _ = socket.recv_fds(connection, LARGEST_ORDER, 2)
            if pid := os.fork():
                for descriptor in descriptors:
                    os.close(descriptor)
                connection.sendall(str(pid).encode())
                _, status = os.waitpid(pid, 0)
                with suppress(BrokenPipeError):  # whoever asked has waited long enough
                    connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
                os._exit(0)
            connection.close()
            _become(json.loads(message), descriptors)
            return
        connection.close()
    os._exit(0)


def _become(order: dict, descriptors: Sequence[int]) -> None:
    """Take the arguments, the folder, the environment and the output of a command."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    null = os.open(os.devnull, os.O_RDONLY)
    for place, descriptor in enumerate([null, *descriptors]):
        os.dup2(descriptor, place)
        os.close(descriptor)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    tempfile.tempdir = None
    sys.argv = order["arguments"]


if __name__ == "__main__":
    sys.path[0] = str(COMMAND.parent)  # as for the script, which knows nothing of the tests
    for module in IMPORTS:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what is never collected is never copied
    _wait_for_order(socket.socket(fileno=int(sys.argv[1])))
    from simplenet.cli.app import main

    sys.exit(main())
