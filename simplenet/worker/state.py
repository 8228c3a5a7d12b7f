"""What a verified and warm worker reports about itself: a line in its log, and a small file for `serve`.

Each worker writes `<pid>.json` into the folder that SIMPLENET_STATE_DIR names, and touches it after a batch: whoever
watches sees that it makes progress. On a stock TorchServe the variable is not set. Torch is imported inside functions:
`serve` reads these files before it has imported torch.
"""

import logging
import math
import os
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from simplenet import settings
from simplenet.atomic import atomic_write

if TYPE_CHECKING:
    import torch

    from simplenet.worker.predictor import Predictor

logger = logging.getLogger(__name__)

TOUCH_INTERVAL_S = 0.5

_CPU_INFO = Path("/proc/cpuinfo")
_SHOWN_HASH = 12  # digits


@dataclass(frozen=True)
class WorkerState:
    """One worker, as it was when it became ready.

    The library in the archive writes it, which may be older or newer than the one that reads it: a field added here has
    a default.
    """

    pid: int
    model: str
    version: str  # of the model
    device: str = ""  # that it computes on: "cuda:3", "mps", "cpu"
    device_name: str = ""
    gpu: int | None = None  # that TorchServe assigned to it; differs from `device` if torch has no CUDA
    content_hash: str = ""  # of the weights
    torch: str = ""  # its version
    started: str = ""  # when it became ready: UTC, ISO 8601
    fast_paths: dict[str, str] = field(default_factory=dict)  # behind "wire", "frontend", "json" and "png"

    def write(self, folder: Path) -> None:
        """Write the state as `<pid>.json`, whole or not at all, and remove those of workers that have ended."""
        for other in folder.glob("*.json"):
            if other.stem.isdecimal() and not _exists(int(other.stem)):
                other.unlink(missing_ok=True)
        with atomic_write(folder / f"{self.pid}.json") as file:
            file.write(orjson.dumps(asdict(self)))

    def __str__(self) -> str:
        """One line for the log."""
        wire, frontend, json, png = (self.fast_paths.get(name, "?") for name in ("wire", "frontend", "json", "png"))
        return (
            f"worker {self.pid}: {self.model} {self.version} on {self.device} ({self.device_name}), "
            f"wire {wire}, frontend {frontend}, JSON {json}, PNG {png}, "
            f"verified {self.content_hash[:_SHOWN_HASH]}"
        )


def read_all(folder: Path) -> list[WorkerState]:
    """Every state in a folder, by pid; a file that vanishes or has other contents is skipped, as is an unknown field.

    A worker that died leaves its file: the caller must check whether the process is running.
    """
    known = {each.name for each in fields(WorkerState)}
    states = []
    for file in folder.glob("*.json"):
        with suppress(FileNotFoundError, orjson.JSONDecodeError, TypeError, AttributeError):
            values = orjson.loads(file.read_bytes()).items()
            states.append(WorkerState(**{name: value for name, value in values if name in known}))
    return sorted(states, key=lambda state: state.pid)


def announce(context: Any, predictor: "Predictor", wire_is_fast: bool) -> None:
    """Log the state of this worker, and write it where `serve` reads it.

    Args:
        context: TorchServe's.
        predictor: verified and warm.
        wire_is_fast: whether `wire` replaced TorchServe's reader and writer.
    """
    state = _describe(context.manifest["model"], context.system_properties.get("gpu_id"), predictor, wire_is_fast)
    logger.info("%s", state)
    if folder := settings.STATE_DIR.read():
        state.write(Path(folder))
        progress.begin(state, Path(folder))


class Progress:
    """The file of this worker's own state: its time of modification tells when a batch was last answered."""

    def __init__(self) -> None:
        self._state: WorkerState | None = None
        self._folder = Path()
        self._next = math.inf  # nothing to touch before `begin`

    def begin(self, state: WorkerState, folder: Path) -> None:
        """Touch the file of `state`, which was written into `folder`, from now on."""
        self._state, self._folder, self._next = state, folder, 0.0

    def touch(self) -> None:
        """Set the file's time to now, at most every 0.5 s; one that vanished is written again."""
        now = time.monotonic()
        if now < self._next or self._state is None:
            return
        self._next = now + TOUCH_INTERVAL_S
        try:
            os.utime(self._folder / f"{self._state.pid}.json")
        except FileNotFoundError:
            self._rewrite(self._state)
        except OSError as error:
            logger.warning("the state file of this worker cannot be touched: %s", error)

    def _rewrite(self, state: WorkerState) -> None:
        try:
            self._folder.mkdir(exist_ok=True)
            state.write(self._folder)
        except OSError as error:  # a full disk, or the run directory is gone: requests are answered all the same
            logger.warning("the state file of this worker vanished and cannot be written: %s", error)


progress = Progress()  # this process's


def _describe(
    manifest: Mapping[str, str], gpu: str | int | None, predictor: "Predictor", wire_is_fast: bool
) -> WorkerState:
    import torch

    from simplenet.worker.formats import fast_json, fast_png

    return WorkerState(
        pid=os.getpid(),
        model=manifest["modelName"],
        version=manifest["modelVersion"],
        device=str(predictor.device),
        device_name=_device_name(predictor.device),
        gpu=None if gpu is None else int(gpu),
        content_hash=predictor.content_hash,
        torch=torch.__version__,
        started=datetime.now(timezone.utc).isoformat(timespec="microseconds"),
        fast_paths={
            "wire": "fast" if wire_is_fast else "stock",
            "frontend": settings.FRONTEND_IN_USE.read(),
            "json": fast_json.ACTIVE,
            "png": fast_png.ACTIVE,
        },
    )


def _device_name(device: "torch.device") -> str:
    """The name of the hardware."""
    import torch

    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    if _CPU_INFO.is_file():
        for line in _CPU_INFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it belongs to another user
        pass
    return True
