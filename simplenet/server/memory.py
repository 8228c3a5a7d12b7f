"""How much memory is available, and how Java and the bodies of requests share it.

What a large body costs, as a multiple of its size; measured with bodies of 12.8 MB:

- direct memory: 1 while it arrives, 1 while its batch is written to the worker's socket
- heap: 1 while it waits, 2 while its batch is assembled in a buffer that grows by copying
- the worker: 3, because its buffer doubles by copying

A response is an array on the heap, is copied there into a buffer that may be twice as large, and from that to direct
memory to be sent.
"""

import re
import resource
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from simplenet.errors import SettingError
from simplenet.settings import LARGEST_BATCH_RESPONSE, MAX_BATCH_RESPONSE, MAX_RESPONSE, MEMORY

MIB = 1 << 20
GIB = 1 << 30
LARGEST_HEAP = 4 * GIB
LARGEST_DIRECT = 2 * GIB
LARGEST_BUDGET = 1 * GIB  # for bodies: 64 of 16 MiB
LARGEST_BATCH = 128 * MIB  # for all responses of a batch together, unless one may be larger
SHIPPED_REQUEST_SIZE = 16 * MIB  # max_request_size in config.properties
SHIPPED_RESPONSE_SIZE = 32 * MIB  # max_response_size there

SERVE = 200 * MIB  # `simplenet serve` itself
_JAVA = 130 * MIB  # besides heap and direct memory
_WORKER = 240 * MIB  # on the CPU, its model loaded
_FIRST_HEAP = 128 * MIB
_SMALL_HEAP = 96 * MIB  # for requests too small to be charged to the budget
_SMALL_DIRECT = 32 * MIB
_HEAP_PER_BODY = 3
_DIRECT_PER_BODY = 2
_WORKER_PER_BODY = 3
_HEAP_PER_RESPONSE = 3
_DIRECT_PER_RESPONSE = 1
_LEAST_BUDGET = MIB
_READ = 16 << 10  # bytes of a read of a socket (frontend.py)
_LEAST_CONNECTIONS, _MOST_CONNECTIONS = 256, 1 << 20
_OTHER_DESCRIPTORS = 512  # of the frontend: jars, logs, workers, the other ports
_SPARE = 10  # a tenth stays free, for the kernel's socket buffers among others
_SIZE = re.compile(r"(\d+)([kmgt]?)", re.IGNORECASE)
_UNLIMITED = 1 << 60  # cgroup v1 writes "no limit" as a number of this size


@dataclass(frozen=True)
class MemoryPlan:
    """The chosen sizes, in bytes."""

    offered: int
    heap: int
    direct: int
    budget: int  # for all large bodies that the frontend holds at once
    max_request_size: int
    lowered: bool = False  # max_request_size, so that one body fits
    enforced: bool = True  # the frontend enforces the budget; a stock one does not
    batch_response: int = LARGEST_BATCH  # for all responses of a batch together
    max_response_size: int = SHIPPED_RESPONSE_SIZE  # for one of them

    def __str__(self) -> str:
        """One line for the user."""
        bodies = max(1, self.budget // self.max_request_size)
        many = f"up to {bodies} bod{'ies' if bodies > 1 else 'y'} of {shown(self.max_request_size)} at once"
        notes = [many if self.enforced else "no limit on bodies: the frontend is stock"]
        if self.lowered:
            notes.append("max_request_size lowered to that")
        elif self.max_request_size > self.budget and self.enforced:
            notes.append(f"but max_request_size allows more than the {shown(self.budget)} that memory has for bodies")
        return (
            f"memory: {shown(self.offered)} offered; Java heap {shown(self.heap)}, direct {shown(self.direct)}: "
            + ", ".join(notes)
        )

    @property
    def connections(self) -> int:
        """How many clients may be connected: each may hold a read in direct memory, of which half is for that.

        Each takes a descriptor too; Java raises the limit of these to the hard one.
        """
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        most = _MOST_CONNECTIONS if descriptors == resource.RLIM_INFINITY else descriptors - _OTHER_DESCRIPTORS
        return max(_LEAST_CONNECTIONS, min(self.direct // 2 // _READ, most))

    def java_options(self) -> list[str]:
        """The options of Java for these sizes; the user's own options come later and override them."""
        return [
            f"-Xms{min(self.heap, _FIRST_HEAP) // MIB}m",
            f"-Xmx{self.heap // MIB}m",
            f"-XX:MaxDirectMemorySize={self.direct // MIB}m",
            f"-Dsimplenet.body.budget={self.budget}",
            f"-Dsimplenet.small.budget={max(_SMALL_HEAP, self.heap - _HEAP_PER_BODY * self.budget) // 2}",
            f"-Dsimplenet.response.budget={max(self.direct // 4, self.max_response_size)}",
            f"-Dsimplenet.connections={self.connections}",
        ]

    def environment(self) -> dict[str, str]:
        """How large the workers' responses may be, which the workers see to."""
        batch = self.batch_response
        if not self.enforced:  # a stock frontend reads a large batch in quadratic time
            batch = min(batch, max(self.max_response_size, LARGEST_BATCH_RESPONSE))
        return {MAX_RESPONSE.name: str(self.max_response_size), MAX_BATCH_RESPONSE.name: str(batch)}


def plan_memory(offered: int, workers: int, config: Mapping[str, str], models: int = 0) -> MemoryPlan:
    """Divide the memory.

    Args:
        offered: bytes.
        workers: of all models together.
        config: config.properties; a heap or direct memory in its `vmargs`, and a `max_request_size` other than the
            shipped one, are kept.
        models: bytes of the archives, each once for every worker that reads it and builds its network.

    Raises:
        SettingError: `max_request_size` or `max_response_size` is no number of bytes.
    """
    per_body = _HEAP_PER_BODY + _DIRECT_PER_BODY + _WORKER_PER_BODY
    fixed = SERVE + _JAVA + workers * _WORKER + 2 * models + _SMALL_HEAP + _SMALL_DIRECT
    rest = offered - offered // _SPARE - fixed
    budget = min(LARGEST_BUDGET, max(_LEAST_BUDGET, rest // per_body))
    heap = LARGEST_HEAP if budget == LARGEST_BUDGET else _SMALL_HEAP + _HEAP_PER_BODY * budget
    direct = min(LARGEST_DIRECT, _SMALL_DIRECT + _DIRECT_PER_BODY * budget)
    vmargs = config.get("vmargs", "").split()
    if own := _option(vmargs, ("-Xmx", "-XX:MaxHeapSize=")):
        heap, budget = own, min(budget, max(_LEAST_BUDGET, (own - _SMALL_HEAP) // _HEAP_PER_BODY))
    if own := _option(vmargs, ("-XX:MaxDirectMemorySize=",)):
        direct, budget = own, min(budget, max(_LEAST_BUDGET, (own - _SMALL_DIRECT) // _DIRECT_PER_BODY))
    request_size = _size_setting(config, "max_request_size", SHIPPED_REQUEST_SIZE)
    lowered = request_size == SHIPPED_REQUEST_SIZE > budget
    response_size = _size_setting(config, "max_response_size", SHIPPED_RESPONSE_SIZE)
    # All workers may respond at once; one share is for bodies.
    share = min(heap // (1 + _HEAP_PER_RESPONSE * workers), direct // (1 + _DIRECT_PER_RESPONSE * workers))
    batch = min(share, max(response_size, LARGEST_BATCH))
    return MemoryPlan(
        offered, heap, direct, budget, budget if lowered else request_size, lowered,
        batch_response=batch, max_response_size=min(response_size, batch),
    )  # fmt: skip


def offered_bytes(root: Path = Path("/"), address_space: int | None = None, physical: int | None = None) -> int:
    """The memory that this process and its children may use: the smallest of all limits on them.

    Args:
        root: of the file system with the cgroups; macOS has none.
        address_space: its limit, by default this process's (`ulimit -v`); negative means none.
        physical: bytes of memory, by default this machine's.

    Raises:
        SettingError: SIMPLENET_MEMORY is not a size.
    """
    if given := given_bytes():
        return given
    limits = [physical or psutil.virtual_memory().total, *(limit for _, limit in cgroup_limits(root))]
    soft = resource.getrlimit(resource.RLIMIT_AS)[0] if address_space is None else address_space
    if soft > 0:
        limits.append(soft)
    return min(limits)


def given_bytes() -> int:
    """The memory that SIMPLENET_MEMORY gives the server; 0 if it is not set.

    Raises:
        SettingError: it is not a size.
    """
    given = MEMORY.read()
    size = parse_size(given)
    if given and not size:
        raise SettingError(f"{MEMORY.name}: expected a size like 1500m or 2g, found {given!r}")
    return size


def worker_bytes(archive: int) -> int:
    """The memory that one more worker takes, on the CPU: it reads its archive and builds the network.

    Args:
        archive: its size in bytes.
    """
    return _WORKER + 2 * archive


def parse_size(text: str) -> int:
    """Bytes from a size as Java writes it; 0 if it is not a size.

    Example:
        >>> parse_size("1500m"), parse_size("2G"), parse_size("much")
        (1572864000, 2147483648, 0)
    """
    match = _SIZE.fullmatch(text.strip())
    return int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}[match[2].lower()] if match else 0


def cgroup_limits(root: Path, process: int | str = "self") -> Iterator[tuple[Path, int]]:
    """The limits of a process's cgroup and its parents; in a container the mount may begin at one of them.

    The format of /proc/PID/cgroup: https://man7.org/linux/man-pages/man7/cgroups.7.html

    Args:
        root: of the file system with the cgroups.
        process: its pid.

    Returns:
        Each file with a limit, and the bytes in it.
    """
    groups = root / f"proc/{process}/cgroup"
    for line in groups.read_text().splitlines() if groups.is_file() else ():
        _, controllers, name = line.split(":", 2)
        mounts: tuple[str, ...]
        if controllers == "":
            mounts, limit = ("sys/fs/cgroup", "sys/fs/cgroup/unified"), "memory.max"
        elif "memory" in controllers.split(","):
            mounts, limit = ("sys/fs/cgroup/memory",), "memory.limit_in_bytes"
        else:
            continue
        group = Path(name.lstrip("/"))
        for folder in (group, *group.parents):
            for mount in mounts:
                file = root / mount / folder / limit
                value = file.read_text().strip() if file.is_file() else ""
                if value.isdecimal() and 0 < int(value) < _UNLIMITED:
                    yield file, int(value)


def shown(size: int) -> str:
    """A size as it is written in messages.

    Example:
        >>> shown(1 << 20), shown(3 << 29)
        ('1 MiB', '1.5 GiB')
    """
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.4g} MiB"


def _option(vmargs: list[str], prefixes: tuple[str, ...]) -> int:
    """The size that the last of these options gives, or 0."""
    sizes = [parse_size(arg[len(prefix) :]) for arg in vmargs for prefix in prefixes if arg.startswith(prefix)]
    return sizes[-1] if sizes else 0


def _size_setting(config: Mapping[str, str], name: str, shipped: int) -> int:
    """A number of bytes as TorchServe reads it: a Java int."""
    given = config.get(name, str(shipped))
    if not given.isdecimal() or not 0 < int(given) < 1 << 31:
        raise SettingError(
            f"config.properties: {name}: expected a number of bytes from 1 to {(1 << 31) - 1}, "
            f"found {given!r}; {shipped // MIB} MiB are {shipped}"
        )
    return int(given)
