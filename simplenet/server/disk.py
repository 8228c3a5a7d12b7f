"""Whether the disk has room for a server: before it starts, and while it does.

On a full disk TorchServe cannot unpack a model and cannot write that to its logs: `serve` would wait in vain.
"""

import errno
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from simplenet.errors import ServerError
from simplenet.text import first_line

MB = 1_000_000
LOGS_BYTES = 50 * MB  # one log before it is rotated
_PROBE_BYTES = 1 << 16
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # the last is no want of space


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """An OSError of the body that names no file gets this one: the system names none when a write fails."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(file)
        raise


def in_words(error: OSError) -> str:
    """The error's file, what is wrong, and what to do about a full disk.

    Example:
        >>> in_words(OSError(errno.ENOSPC, "No space left on device", "net.mar"))
        'net.mar: No space left on device; free some space, and try again'
    """
    remedy = "; free some space, and try again" if error.errno in _FULL[:-1] else ""
    return f"{error.filename or 'file'}: {error.strerror or first_line(error)}{remedy}"


def needed_bytes(archives: Iterable[Path]) -> int:
    """What a server of these archives writes into its run directory: all of them unpacked, and logs."""
    total = LOGS_BYTES
    for path in archives:
        with zipfile.ZipFile(path) as archive:
            total += sum(item.file_size for item in archive.infolist())
    return total


def require_space(run_dir: Path, archives: Iterable[Path]) -> None:
    """Refuse to start a server whose files do not fit.

    Raises:
        ServerError: too little is free.
    """
    needed, free = needed_bytes(archives), shutil.disk_usage(run_dir).free
    if free < needed:
        raise ServerError(_no_space(run_dir, "no space left on the disk", needed, free))


def require_writable_disk(run_dir: Path, needed: int = LOGS_BYTES) -> None:
    """Check that the run directory can still be written to; a quota, too, shows only when something is written.

    Raises:
        ServerError: it is full.
    """
    probe = run_dir / "probe"
    try:
        with probe.open("wb", buffering=0) as file:
            written = file.write(os.urandom(_PROBE_BYTES))  # a compressing file system would find room for zeros
        if written < _PROBE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        if error.errno not in _FULL:
            raise
        message = (error.strerror or "full").lower()
        raise ServerError(_no_space(run_dir, message, needed, shutil.disk_usage(run_dir).free)) from error
    finally:
        probe.unlink(missing_ok=True)


def _no_space(run_dir: Path, problem: str, needed: int, free: int) -> str:
    return (
        f"{run_dir}: {problem}: {-(-needed // MB):,} MB needed, {free // MB:,} MB free; "
        "free some, or set XDG_STATE_HOME to a folder on another disk"
    )
