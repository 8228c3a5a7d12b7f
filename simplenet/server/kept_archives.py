"""The folder `deployed`, beside the state file: a copy of each archive that is live or that `rollback` can return to.

The archives that the user put into the model store are never changed, and those here stay when the user's are replaced.
"""

import hashlib
import os
import shutil
import zipfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

import orjson

from simplenet.atomic import atomic_write
from simplenet.errors import ServerError
from simplenet.manifest import MANIFEST, Manifest
from simplenet.server.history import History

_FOLDER = "deployed"
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
        (home / _FOLDER).mkdir(exist_ok=True)
        with atomic_write(home / _FOLDER / ".probe"):
            pass
        (home / _FOLDER / ".probe").unlink(missing_ok=True)
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
        with archive.path.open("rb") as source, atomic_write(target) as file:
            shutil.copyfileobj(source, file, 2**20)
        if not _holds(target, contents):
            target.unlink()
            raise ServerError(f"{archive.path}: expected the archive that was verified, found another; try again")
    return target


def keep_link(home: Path, archive: Manifest, contents: str) -> Path:
    """`keep_copy` without the time that a copy takes; where there are no hard links the archive stays where it is.

    If the user's file is written into, so is this one, which the contents hash tells.
    """
    target = _kept_path(home, archive, contents)
    return target if target.exists() or _linked(archive.path, target) else archive.path


def prune(home: Path, histories: Mapping[str, History], also: Collection[Path] = ()) -> None:
    """Delete the archives in the folder `deployed` that neither the histories nor `also` name."""
    named = {release.path for history in histories.values() for release in history.releases()} | set(also)
    for file in (home / _FOLDER).glob("*.mar"):
        if file not in named:
            with suppress(OSError):
                file.unlink()


def lock_file(home: Path) -> Path:
    """The file to lock with `exclusive` before the folder `deployed` is changed."""
    (home / _FOLDER).mkdir(exist_ok=True)
    return home / _FOLDER / ".lock"


def _kept_path(home: Path, archive: Manifest, contents: str) -> Path:
    """Where `keep_copy` puts an archive."""
    return home / _FOLDER / f"{archive.model_name}-{archive.version}-{contents[:_DIGITS]}.mar"


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(source.resolve(), target)
    except OSError:
        return False
    return True


def _holds(file: Path, contents: str) -> bool:
    try:
        return contents_hash(file) == contents
    except Exception:  # missing, or damaged in any way
        return False
