"""Why a worker could not load, in one line, from the logs of a TorchServe run."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

_LOGS = ("model_log.log", "ts_log.log", "console.log")
# Logged by a worker that cannot load, after its traceback, and by the frontend if a worker cannot even start.
_WORKER_DIED = ("Backend worker process died.", "Failed to load model")
_FRONTEND_SAYS = ("Backend worker error", "Failed to load model", "Load model failed")
_PREFIX = re.compile(r"^\S+ (?:ERROR|WARN|INFO|DEBUG|TRACE)\s+(\S+) - ")
_THREAD = re.compile(r"W-\d+-(.+?)(?:-std(?:out|err))?")  # a worker's: W-9000-<model>_<version>-stdout
_EXCEPTION = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?([A-Z]\w*(?:Error|Exception|Exit|Interrupt|Warning)): (.+)")
# TorchServe hides an import error behind a second one, and any other behind a third.
_HIDES = ("No module named 'ts.torch_handler.", "500 - Unknown exception", "507 - System out of memory")


def load_failed(logs: Path) -> bool:
    """Whether a worker of this run gave up loading its model."""
    return any(mark in _read(logs / "model_log.log") for mark in _WORKER_DIED) or any(
        mark in _read(logs / "ts_log.log") for mark in _FRONTEND_SAYS
    )


def root_cause(logs: Path, models: Sequence[str] = (), after: Mapping[str, int] | None = None) -> str:
    """The exception that stopped the worker, without its traceback; of a SimpleNetError only the message.

    Args:
        logs: the folder of the run's logs.
        models: all served models; if there are several, the failing one is named.
        after: from `log_sizes`: what was in the logs by then is not the cause.
    """
    begin = after or {}
    for name in _LOGS:
        if causes := _causes(logs / name, begin.get(name, 0)):
            thread, cause = causes[-1]
            own_error = cause[0].startswith("simplenet.errors.")
            return _model_of(thread, models) + (cause[2] if own_error else f"{cause[1]}: {cause[2]}")
    console = [line for line in _read(logs / "console.log", begin.get("console.log", 0)).splitlines() if line.strip()]
    return console[-1].strip() if console else "it left no message"


def log_sizes(logs: Path) -> dict[str, int]:
    """How many bytes each log has now."""
    return {name: (logs / name).stat().st_size for name in _LOGS if (logs / name).is_file()}


def names_cause(log: Path) -> bool:
    """Whether this log holds an exception that can be a root cause."""
    return bool(_causes(log))


def _causes(log: Path, begin: int = 0) -> list[tuple[str, re.Match[str]]]:
    """The thread and the exception of every line that names one."""
    causes = []
    for line in _read(log, begin).splitlines():
        prefix = _PREFIX.match(line)
        exception = _EXCEPTION.match(line[prefix.end() if prefix else 0 :].strip())
        if exception and not any(mark in exception[0] for mark in _HIDES):
            causes.append((prefix[1] if prefix else "", exception))
    return causes


def _model_of(thread: str, models: Sequence[str]) -> str:
    worker = _THREAD.fullmatch(thread)
    if len(models) < 2 or worker is None:
        return ""
    name = max((model for model in models if worker[1].startswith(f"{model}_")), key=len, default=None)
    return f"{name}: " if name else ""


def _read(file: Path, begin: int = 0) -> str:
    """The text of a log from a byte on; a log that is shorter was begun anew."""
    content = file.read_bytes() if file.is_file() else b""
    return content[begin if begin <= len(content) else 0 :].decode(errors="replace")
