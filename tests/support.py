"""What the tests of a running server share: starting the command, finding ports and processes."""

import os
import random
import re
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil
from warm_command import warm_process

COMMAND_TIMEOUT_S = 600  # far beyond what a slow machine needs; it only ends what hangs


@dataclass(frozen=True)
class Running:
    """A server under test: where it listens, what `serve` printed, what it serves."""

    port: int
    output: str
    checkpoint: Path | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def predictions(self) -> str:
        return f"{self.url}/predictions/simplenet"

    @property
    def management(self) -> str:
        return f"http://127.0.0.1:{self.port + 1}"


def free_port() -> int:
    """A port that is free together with the four after it.

    From below the range that outgoing connections take theirs from; each pytest worker has a part of its own.
    """
    part = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
    while True:
        base = random.randrange(10_000 + 5_000 * part, 15_000 + 5_000 * part, 5)
        if all(_is_free(base + offset) for offset in range(5)):
            return base


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def simplenet(*arguments: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the `simplenet` command to its end in the folder `cwd`, with these variables in its environment."""
    environment = {**os.environ, "COLUMNS": "200", **environment}
    return warm_process().run([*map(str, arguments)], cwd or Path.cwd(), environment, COMMAND_TIMEOUT_S)


def worker_pids(port: int) -> set[int]:
    """The worker processes of the server on this port."""
    mark = f"/{port}/tmp/.ts.sock"
    return {
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any(mark in argument for argument in process.info["cmdline"] or ())
    }


def processes_of(port: int) -> list[int]:
    """Every process, frontend or worker, of the server on this port."""
    mark = re.compile(rf"/simplenet(-\d+)?/{port}/")
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any(mark.search(argument) for argument in process.info["cmdline"] or ())
    ]


def stand_in_nvidia_smi(folder: Path, gpus: int, delay_s: float = 0) -> str:
    """A PATH on which `nvidia-smi` lists so many GPUs, after as long a wait as a real one takes.

    It answers `serve` and the two questions of TorchServe 0.12: ConfigManager's at the start, WorkerThread's for each
    worker that is described.
    """
    numbers = " ".join(map(str, range(gpus)))
    script = folder / "nvidia-smi"
    script.write_text(f"""#!/bin/sh
sleep {delay_s}
case "$*" in
    --list-gpus) for i in {numbers}; do echo "GPU $i: NVIDIA Stand-in (UUID: GPU-$i)"; done ;;
    "--query-gpu=index --format=csv") echo index; for i in {numbers}; do echo $i; done ;;
    "-i "*" --query-gpu=utilization.gpu,utilization.memory,memory.used --format=csv")
        echo "utilization.gpu [%], utilization.memory [%], memory.used [MiB]"; echo "0 %, 0 %, 0 MiB" ;;
    *) echo "unexpected: $*" >&2; exit 6 ;;
esac
""")
    script.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"
