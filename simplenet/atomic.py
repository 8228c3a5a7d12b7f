"""Files that are either whole or not there."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def atomic_write(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[IO[bytes]]:
    """Open a sibling temporary file for writing; on leaving, flush it to disk and rename it to `path`.

    Whoever reads `path` sees the old contents or the new, never a part. If the body raises, `path` is untouched
    and the temporary file is removed.

    Raises:
        FileExistsError: `path` exists, or appeared meanwhile, and `overwrite` is false.
    """
    with atomic_path(path, overwrite=overwrite) as temporary, temporary.open("r+b") as file:
        yield file


@contextmanager
def atomic_path(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[Path]:
    """`atomic_write` for a writer that wants a name: yields that of the temporary file, which is there and empty."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        _sync(temporary)
        if overwrite:
            temporary.replace(target)
        else:
            os.link(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(target.parent)  # so that the rename itself survives a power cut


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    """Flush a file's contents, or a folder's names, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
