"""Whether the memory that is left is enough for the workers of one more version.

During a deployment they run beside those of the live version, which the plan of memory.py does not count. Without this
check the kernel would kill something in the midst of it, perhaps the frontend. What counts is the memory in use now:
what Java may still grow by is not set aside, or a small container could not be upgraded at all.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from simplenet.errors import ServerError
from simplenet.server.candidate import Candidate
from simplenet.server.memory import SERVE, cgroup_limits, shown, worker_bytes
from simplenet.server.processes import family
from simplenet.server.record import Server
from simplenet.settings import MEMORY

# Beside each limit, what is in use, and the part of it that is files which the kernel drops first:
# https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files
_USAGE = {
    "memory.max": ("memory.current", "inactive_file"),
    "memory.limit_in_bytes": ("memory.usage_in_bytes", "total_inactive_file"),
}


@dataclass(frozen=True)
class Left:
    """What one limit leaves."""

    size: int  # bytes
    of: str  # the limit, as in messages
    remedy: str  # how to have more


def require_memory(server: Server, candidate: Candidate, archive: Path, root: Path = Path("/")) -> None:
    """Refuse a version whose workers do not fit into the memory that is left. Memory of GPUs is not looked at.

    Args:
        server: a running one.
        candidate: not registered yet.
        archive: as the user knows it.
        root: of the file system with the cgroups.

    Raises:
        ServerError: they do not fit; it says what would.
    """
    each = worker_bytes(candidate.archive.path.stat().st_size)
    needed, least = candidate.workers * each, min(memory_left(server, root), key=lambda left: left.size)
    if least.size >= needed:
        return
    raise ServerError(
        f"{candidate.name}: expected {shown(needed)} of memory for {candidate.workers} more "
        f"worker{'s' * (candidate.workers > 1)}, found {shown(least.size)} left of {least.of}; "
        f"{least.remedy}{_other_remedy(server, candidate, archive, least.size // each)}"
    )


def memory_left(server: Server, root: Path = Path("/"), available: int | None = None) -> Iterator[Left]:
    """What each limit on the server's processes leaves, 0 or more.

    Args:
        server: a running one; its cgroup counts, not that of this process.
        root: of the file system with the cgroups.
        available: bytes that this machine has left, by default as psutil estimates it.
    """
    free = psutil.virtual_memory().available if available is None else available
    yield Left(free, "this machine's memory", "end other programs")
    for file, limit in cgroup_limits(root, server.pid):
        with suppress(OSError, ValueError):  # the usage of some parents cannot be read
            yield Left(max(0, limit - _used_in(file)), f"the {shown(limit)} in {file}", "raise that limit")
    if limit := server.memory_limit:
        used = SERVE + _used_by(server)
        remedy = f"start the server with a larger {MEMORY.name}"
        yield Left(max(0, limit - used), f"the {shown(limit)} of {MEMORY.name}", remedy)


def _other_remedy(server: Server, candidate: Candidate, archive: Path, fitting: int) -> str:
    """What else helps, where `fitting` more workers fit."""
    if fitting:
        return (
            f", or set minWorkers and maxWorkers to {fitting} in the profile of the archive "
            "(of the server, if it was started with --profile) and deploy that"
        )
    if server.model_workers.get(candidate.archive.model_name, 0) < candidate.workers:
        return ""  # they do not fit in place of the live version's either
    others = " and the archives of the other models" * (len(server.models) > 1)
    return (
        f", or interrupt the service: simplenet stop --port {server.port}, then simplenet serve --port {server.port} "
        f"--model-store FOLDER with {archive}{others} in a new FOLDER"
    )


def _used_in(limit: Path) -> int:
    """What the cgroup with this limit uses, without the files that the kernel drops first."""
    usage, droppable = _USAGE[limit.name]
    statistics = dict(line.split() for line in limit.with_name("memory.stat").read_text().splitlines())
    return int(limit.with_name(usage).read_text()) - int(statistics.get(droppable, 0))


def _used_by(server: Server) -> int:
    """What the frontend and the workers use, each part that they share counted once."""
    process, used = server.process(), 0
    for member in family(process) if process is not None else ():
        with suppress(psutil.NoSuchProcess):
            try:
                info = member.memory_full_info()
                used += getattr(info, "pss", info.uss)  # macOS has no pss
            except psutil.AccessDenied:
                used += member.memory_info().rss
    return used
