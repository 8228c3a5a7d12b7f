"""The folder `deployed`, beside the state file: a copy of each archive that is live or that `rollback` can return to.

The archives that the user put into the model store are never changed, and those here stay when the user's are replaced.
A copy is deleted once a history that named it does not any more. One that no history names stays: the state file may be
missing, and the copy the only one. What servers started with is kept apart, in `deployed/started`, by links.
"""

import hashlib
import os
import shutil
import zipfile
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import orjson

from simplenet.atomic import atomic_write
from simplenet.errors import ServerError, SimpleNetError
from simplenet.manifest import MANIFEST, Manifest, read_manifest
from simplenet.server.disk import naming
from simplenet.server.history import KEPT, STATE, copies

_STARTED = "started"  # in the folder of the copies
_DIGITS = 12  # of a hash, in the name of a file


def contents_hash(archive: Path) -> str:
    """SHA-256 of everything in an archive but when it was made: two archives of one checkpoint have the same.

    It is taken from the checksums in the archive, which `read_archive` compares with the contents.
    """
    digest = hashlib.sha256()
    with zipfile.ZipFile(archive) as contents:
        for item in sorted(contents.infolist(), key=lambda item: item.filename):
            if item.filename != MANIFEST:  # has the date
                digest.update(f"{item.filename}\0{item.CRC}\0{item.file_size}\n".encode(errors="surrogateescape"))
        model = orjson.loads(contents.read(MANIFEST))["model"]
    digest.update(orjson.dumps(model, option=orjson.OPT_SORT_KEYS))
    return digest.hexdigest()


def is_writable(home: Path) -> bool:
    """Whether releases can be kept there."""
    try:
        (home / KEPT).mkdir(exist_ok=True)
        with atomic_write(home / KEPT / ".probe"):
            pass
        (home / KEPT / ".probe").unlink(missing_ok=True)
    except OSError:
        return False
    return True


def keep_copy(home: Path, archive: Manifest, contents: str) -> Path:
    """Copy an archive into the folder `deployed`, unless it is there.

    A copy and not a link: `cp` onto the user's file would write into both.

    Args:
        home: the folder that holds `deployed.json`.
        archive: any .mar.
        contents: its `contents_hash`.

    Returns:
        The path there. The user's file may be replaced or deleted: this one stays.

    Raises:
        ServerError: the archive changed meanwhile.
    """
    target = _kept_path(home, archive, contents)
    if not (_holds(target, contents) and target.stat().st_nlink == 1):
        with archive.path.open("rb") as source, naming(target), atomic_write(target) as file:
            shutil.copyfileobj(source, file, 2**20)
        if not _holds(target, contents):
            target.unlink()
            raise ServerError(f"{archive.path}: expected the archive that was verified, found another; try again")
    return target


def keep_link(home: Path, archive: Manifest, contents: str) -> Path:
    """`keep_copy` without the time that a copy takes; where there are no hard links the archive stays where it is.

    If the user's file is written into, so is this one, which the contents hash tells.
    """
    copy = _kept_path(home, archive, contents)
    link = copy.parent / _STARTED / copy.name
    if copy.exists():
        return copy
    return link if link.exists() or _linked(archive.path, link) else archive.path


def prune(home: Path, dropped: Collection[Path], named: Collection[Path]) -> None:
    """Delete copies to which nothing can return any more.

    Args:
        home: the folder that holds `deployed.json`.
        dropped: archives that a history named; only those in the folder `deployed` are deleted.
        named: those to be kept all the same.
    """
    for file in (home / KEPT).glob("*.mar"):
        if file in dropped and file not in named:
            with suppress(OSError):
                file.unlink()


def prune_links(home: Path, named: Collection[Path]) -> None:
    """Delete the links to what servers started with, but for those named."""
    for file in (home / KEPT / _STARTED).glob("*.mar"):
        if file not in named:
            with suppress(OSError):
                file.unlink()


def forgotten(home: Path) -> dict[str, Path]:
    """The newest copy of each model, by its name, where the state file that named the copies is missing."""
    if (home / STATE).exists():
        return {}
    newest: dict[str, Path] = {}
    for file in copies(home):
        with suppress(SimpleNetError):
            newest[read_manifest(file).model_name] = file
    return newest


def lock_file(home: Path) -> Path:
    """The file to lock with `exclusive` before the folder `deployed` is changed."""
    (home / KEPT).mkdir(parents=True, exist_ok=True)
    return home / KEPT / ".lock"


def _kept_path(home: Path, archive: Manifest, contents: str) -> Path:
    """Where `keep_copy` puts an archive."""
    return home / KEPT / f"{archive.model_name}-{archive.version}-{contents[:_DIGITS]}.mar"


def _linked(source: Path, target: Path) -> bool:
    try:
        target.parent.mkdir(exist_ok=True)
        os.link(source.resolve(), target)
    except OSError:
        return False
    return True


def _holds(file: Path, contents: str) -> bool:
    try:
        return contents_hash(file) == contents
    except Exception:  # missing, or damaged in any way
        return False
