"""Why a worker could not load, in one line, from the logs of a TorchServe run."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

NO_MESSAGE = "it left no message"
_LOGS = ("model_log.log", "ts_log.log", "console.log")
# Logged by a worker that cannot load, after its traceback, and by the frontend if a worker cannot even start.
_WORKER_DIED = ("Backend worker process died.", "Failed to load model")
_FRONTEND_SAYS = ("Backend worker error", "Failed to load model", "Load model failed")
_DISK_FULL = ("No space left on device", "Disk quota exceeded", "File too large")  # of whoever writes
_PREFIX = re.compile(r"^\S+ (?:ERROR|WARN|INFO|DEBUG|TRACE)\s+(\S+) - ")
_THREAD = re.compile(r"W-\d+-(.+?)(?:-std(?:out|err))?")  # a worker's: W-9000-<model>_<version>-stdout
_EXCEPTION = re.compile(
    r"^(?:Caused by: )?(?:[A-Za-z_][\w.]*\.)?([A-Z]\w*(?:Error|Exception|Exit|Interrupt|Warning)): (.+)"
)
# TorchServe hides an import error behind a second one, and any other behind a third.
_HIDES = ("No module named 'ts.torch_handler.", "500 - Unknown exception", "507 - System out of memory")


def load_failed(logs: Path) -> bool:
    """Whether a worker of this run gave up loading its model, or somebody found the disk full."""
    marks = {"model_log.log": _WORKER_DIED, "ts_log.log": _FRONTEND_SAYS, "console.log": ()}
    texts = {name: _read(logs / name) for name in marks}
    return any(mark in texts[name] for name in marks for mark in (*marks[name], *_DISK_FULL))


def failed_models(logs: Path, models: Sequence[str]) -> dict[str, str]:
    """The models whose workers gave up loading, each with its root cause."""
    threads = set()
    for name, marks in (("model_log.log", _WORKER_DIED), ("ts_log.log", _FRONTEND_SAYS)):
        for line in _read(logs / name).splitlines():
            prefix = _PREFIX.match(line)
            if prefix and any(mark in line for mark in marks):
                threads.add(prefix[1])
    models_of_threads = {_model_of(thread, models) for thread in threads}
    return {model: _cause_of(logs, model, models) for model in sorted(models_of_threads - {""})}


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
            model = _model_of(thread, models) if len(models) > 1 else ""
            return (f"{model}: " if model else "") + _in_words(cause)
    console = [line for line in _read(logs / "console.log", begin.get("console.log", 0)).splitlines() if line.strip()]
    return console[-1].strip() if console else NO_MESSAGE


def failure_since(logs: Path, after: Mapping[str, int], model: str) -> str | None:
    """Why the workers of one version gave up loading it, or None if they did not.

    Args:
        logs: the folder of the run's logs.
        after: from `log_sizes`, before the version was registered.
        model: `<name>_<version>`, as in the names of TorchServe's threads.
    """
    lines = [
        line
        for name in ("ts_log.log", "model_log.log")  # the last cause counts, and a worker knows it best
        for line in _lines_of(_read(logs / name, after.get(name, 0)), model)
    ]
    if not any(mark in line for line in lines for mark in (*_WORKER_DIED, *_FRONTEND_SAYS)):
        return None
    causes = _causes_in(lines)
    return _in_words(causes[-1][1]) if causes else NO_MESSAGE


def died_silently(logs: Path, after: Mapping[str, int], model: str) -> bool:
    """Whether no worker of a version wrote why it died, as when it is killed; arguments as for `failure_since`."""
    return not _causes_in(_lines_of(_read(logs / "model_log.log", after.get("model_log.log", 0)), model))


def _lines_of(text: str, model: str) -> list[str]:
    """The lines that the threads of one version wrote, with the stack traces below them."""
    lines, theirs = [], False
    for line in text.splitlines():
        if prefix := _PREFIX.match(line):
            worker = _THREAD.fullmatch(prefix[1])
            theirs = worker is not None and worker[1] == model
        if theirs:
            lines.append(line)
    return lines


def log_sizes(logs: Path) -> dict[str, int]:
    """How many bytes each log has now."""
    return {name: (logs / name).stat().st_size for name in _LOGS if (logs / name).is_file()}


def names_cause(log: Path) -> bool:
    """Whether this log holds an exception that can be a root cause."""
    return bool(_causes(log))


def _in_words(cause: re.Match[str]) -> str:
    return cause[2] if cause[0].startswith("simplenet.errors.") else f"{cause[1]}: {cause[2]}"


def _causes(log: Path, begin: int = 0) -> list[tuple[str, re.Match[str]]]:
    return _causes_in(_read(log, begin).splitlines())


def _causes_in(lines: Iterable[str]) -> list[tuple[str, re.Match[str]]]:
    """The thread and the exception of every line that names one."""
    causes: list[tuple[str, re.Match[str]]] = []
    for line in lines:
        prefix = _PREFIX.match(line)
        exception = _EXCEPTION.match(line[prefix.end() if prefix else 0 :].strip())
        if exception and not any(mark in exception[0] for mark in _HIDES) and not _says_less(exception, causes):
            causes.append((prefix[1] if prefix else "", exception))
    return causes


def _says_less(exception: re.Match[str], causes: list[tuple[str, re.Match[str]]]) -> bool:
    """Whether it is a part of the one before, as Java tells the cause of one: there the program is named, say."""
    return exception[0].startswith("Caused by: ") and bool(causes) and causes[-1][1][2].endswith(exception[2])


def _cause_of(logs: Path, model: str, models: Sequence[str]) -> str:
    """What stopped the workers of one model."""
    for name in _LOGS:
        if causes := [cause for thread, cause in _causes(logs / name) if _model_of(thread, models) == model]:
            return _in_words(causes[-1])
    return NO_MESSAGE


def _model_of(thread: str, models: Sequence[str]) -> str:
    """The model whose worker this thread belongs to, or an empty text."""
    worker = _THREAD.fullmatch(thread)
    if worker is None:
        return ""
    return max((model for model in models if worker[1].startswith(f"{model}_")), key=len, default="")


def _read(file: Path, begin: int = 0) -> str:
    """The text of a log from a byte on; a log that is shorter was begun anew."""
    content = file.read_bytes() if file.is_file() else b""
    return content[begin if begin <= len(content) else 0 :].decode(errors="replace")
