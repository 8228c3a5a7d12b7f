"""Why a worker could not load, in one line, from the logs of a TorchServe run."""

import re
from pathlib import Path

# A worker that cannot load prints a traceback and this; a worker that cannot even start makes the frontend say so.
_WORKER_DIED = ("Backend worker process died.", "Failed to load model")
_FRONTEND_SAYS = ("Backend worker error", "Failed to load model", "Load model failed")
_PREFIX = re.compile(r"^\S+ (?:ERROR|WARN|INFO|DEBUG|TRACE)\s+\S+ - ")
_EXCEPTION = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?([A-Z]\w*(?:Error|Exception|Exit|Interrupt|Warning)): (.+)")
# TorchServe hides an import error behind a second one, and any other behind a third.
_HIDES = ("No module named 'ts.torch_handler.", "500 - Unknown exception", "507 - System out of memory")


def load_failed(logs: Path) -> bool:
    """Whether a worker of this run gave up loading its model."""
    return any(mark in _read(logs / "model_log.log") for mark in _WORKER_DIED) or any(
        mark in _read(logs / "ts_log.log") for mark in _FRONTEND_SAYS
    )


def root_cause(logs: Path) -> str:
    """The exception that stopped the worker, without its traceback; a refusal of ours is its message alone."""
    for name in ("model_log.log", "ts_log.log", "console.log"):
        lines = [_PREFIX.sub("", line).strip() for line in _read(logs / name).splitlines()]
        found = [match for line in lines if (match := _EXCEPTION.match(line))]
        causes = [match for match in found if not any(mark in match[0] for mark in _HIDES)]
        if causes:
            ours = causes[-1][0].startswith("simplenet.errors.")
            return causes[-1][2] if ours else f"{causes[-1][1]}: {causes[-1][2]}"
    console = [line for line in _read(logs / "console.log").splitlines() if line.strip()]
    return console[-1].strip() if console else "it left no message"


def _read(file: Path) -> str:
    return file.read_text(errors="replace") if file.is_file() else ""
