"""Files that are either complete or absent."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from simplenet.paths import PathLike


@contextmanager
def atomic_write(path: PathLike, *, overwrite: bool = True) -> Iterator[IO[bytes]]:
    """Open a new file for writing; on leaving, flush it to disk and give it the name `path`.

    A reader of `path` sees the old contents or the new, never a part. If the body raises, `path` is untouched and
    nothing is left behind. If the process is killed, nothing is left behind either where the file system supports
    unnamed files; elsewhere the hidden sibling `.<name>.<random>.tmp` stays. With unnamed files, such a sibling is
    complete: it exists only between the flush and the rename.

    Raises:
        FileExistsError: `path` exists, or appeared meanwhile, and `overwrite` is false.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    hidden = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        with _open_nameless(target.parent) or hidden.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if not hidden.exists():
                _give_name(file.fileno(), hidden)
        if overwrite:
            hidden.replace(target)
        else:
            os.link(hidden, target)
    finally:
        hidden.unlink(missing_ok=True)
    _sync(target.parent)  # so that the name itself survives a power cut


def _open_nameless(folder: Path) -> IO[bytes] | None:
    """A file in the folder that has no name yet and vanishes with the process; None if unsupported."""
    flag = getattr(os, "O_TMPFILE", None)
    if flag is None or not Path("/proc/self/fd").is_dir():
        return None
    try:
        return os.fdopen(os.open(folder, flag | os.O_RDWR, 0o666), "w+b")
    except OSError:  # NFS, among others; for a read-only folder, opening the named file raises the same error
        return None


def _give_name(descriptor: int, name: Path) -> None:
    """Name an unnamed file: see O_TMPFILE in https://man7.org/linux/man-pages/man2/open.2.html."""
    folder = os.open(name.parent, os.O_RDONLY)  # with dst_dir_fd, os.link follows the link in /proc
    try:
        os.link(f"/proc/self/fd/{descriptor}", name.name, dst_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)


def _sync(folder: Path) -> None:
    """Flush a folder's names to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
