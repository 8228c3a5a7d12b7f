"""Which version of each model is live, and which were before: what survives a restart of the server.

The state is a small JSON file in the model store, `deployed.json`; the archives that it names are beside it, in the
folder `deployed`. The archives that the user put into the store are never changed. Where the store cannot be written to
(a bucket, a read-only mount, `serve --checkpoint`), both are in the run directory, and a new start forgets them.
"""

import fcntl
import hashlib
import os
import shlex
import shutil
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import orjson

from simplenet.atomic import atomic_write
from simplenet.errors import ArchiveError, ServerError
from simplenet.manifest import MANIFEST, Manifest, read_manifest

STATE = "deployed.json"
FOLDER = "deployed"
PREVIOUS_KEPT = 3  # archives of each model to which `rollback` can return
_ORIGIN = Path("models") / "origin.json"  # in the run directory
_DIGITS = 12  # of a hash, in the name of a file


@dataclass(frozen=True)
class Release:
    """One version of a model as it was deployed.

    Another version of this library may read it: a field added here has a default.
    """

    version: str
    path: Path  # the archive
    contents: str  # hash of everything in the archive
    content_hash: str = ""  # of the weights
    deployed: str = ""  # when: UTC, ISO 8601; empty if the server started with it
    accuracy: float | None = None  # from the metadata


@dataclass(frozen=True)
class History:
    """The releases of one model.

    Args:
        live: what is served.
        previous: what was live before, the latest first; `rollback` returns to the first.
        withdrawn: what the last rollback took back; it can be deployed again.
    """

    live: Release
    previous: tuple[Release, ...] = ()
    withdrawn: Release | None = None

    def deploy(self, release: Release) -> "History":
        """The history after this release has become live.

        Example:
            >>> one, two = (Release(version, Path(f"{version}.mar"), "") for version in ("1.0", "2.0"))
            >>> history = History(one).deploy(two)
            >>> history.live.version, [release.version for release in history.previous]
            ('2.0', ['1.0'])
            >>> history.roll_back().live.version
            '1.0'
        """
        before = (self.live, *(one for one in self.previous if one.version != release.version))
        withdrawn = self.withdrawn if self.withdrawn and self.withdrawn.version != release.version else None
        return History(release, before[:PREVIOUS_KEPT], withdrawn)

    def roll_back(self) -> "History":
        """The history after the previous release has become live again; there must be one."""
        return History(self.previous[0], self.previous[1:], self.live)

    def releases(self) -> tuple[Release, ...]:
        """All of them, the live one first."""
        return (self.live, *self.previous, *((self.withdrawn,) if self.withdrawn else ()))

    def find(self, version: str) -> Release | None:
        """The release of this version."""
        return next((release for release in self.releases() if release.version == version), None)


def read_state(home: Path) -> dict[str, History]:
    """The history of each model; empty if nothing was deployed.

    Args:
        home: the folder that holds `deployed.json`.

    Raises:
        ServerError: the file is not what `write_state` writes.
    """
    file = home / STATE
    try:
        models = orjson.loads(file.read_bytes())["models"]
        return {name: from_plain(values, home) for name, values in models.items()}
    except FileNotFoundError:
        return {}
    except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
        raise ServerError(
            f"{file}: expected what simplenet deploy writes, found something else ({type(error).__name__}: {error}); "
            f"delete it, and the archives in {home} are served"
        ) from error


def write_state(home: Path, histories: Mapping[str, History]) -> None:
    """Write the history of each model, whole or not at all."""
    models = {name: to_plain(history, home) for name, history in histories.items()}
    with atomic_write(home / STATE) as file:
        file.write(orjson.dumps({"models": models}, option=orjson.OPT_INDENT_2))


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
        (home / FOLDER).mkdir(exist_ok=True)
        with atomic_write(home / FOLDER / ".probe"):
            pass
        (home / FOLDER / ".probe").unlink(missing_ok=True)
    except OSError:
        return False
    return True


def keep(home: Path, archive: Manifest, contents: str) -> Path:
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
    target = kept_path(home, archive, contents)
    if not (_holds(target, contents) and target.stat().st_nlink == 1):
        with archive.path.open("rb") as source, atomic_write(target) as file:
            shutil.copyfileobj(source, file, 2**20)
        if not _holds(target, contents):
            target.unlink()
            raise ServerError(f"{archive.path}: expected the archive that was verified, found another; try again")
    return target


def kept_path(home: Path, archive: Manifest, contents: str) -> Path:
    """Where `keep` puts an archive."""
    return home / FOLDER / f"{archive.model_name}-{archive.version}-{contents[:_DIGITS]}.mar"


def prune(home: Path, histories: Mapping[str, History], also: Collection[Path] = ()) -> None:
    """Delete the archives in the folder `deployed` that neither the histories nor `also` name."""
    named = {release.path for history in histories.values() for release in history.releases()} | set(also)
    for file in (home / FOLDER).glob("*.mar"):
        if file not in named:
            with suppress(OSError):
                file.unlink()


def live_archives(home: Path, files: Sequence[Path], say: Callable[[str], None]) -> tuple[dict[str, Path], list[Path]]:
    """Which archives a model store serves: of a model that was deployed, the live one, whatever else is there.

    Args:
        home: the model store.
        files: the archives that the user put there.
        say: called with one line for each archive that is left out though it was never deployed.

    Returns:
        Model name to archive, of the models that were deployed; and those of `files` that are of other models.

    Raises:
        ServerError: the state is garbled.
    """
    histories = read_state(home)
    live, others = {}, []
    for name, history in histories.items():
        if history.live.path.is_file():
            live[name] = history.live.path
        else:
            say(f"{home / STATE}: {name} {history.live.version}: its archive {history.live.path} is gone")
    for file in files:
        try:
            archive = read_manifest(file)
        except ArchiveError:  # the caller says so
            others.append(file)
            continue
        if archive.model_name not in live:
            others.append(file)
            continue
        history = histories[archive.model_name]
        if contents_hash(file) not in {release.contents for release in history.releases()}:
            say(
                f"{file}: {archive.model_name} {archive.version} is not served: {history.live.version} is deployed; "
                f"make it live with simplenet deploy {shlex.quote(str(file))}"
            )
    return live, others


def note_origin(run_dir: Path, home: Path | None, profile: str | None, archives: Mapping[str, Path]) -> None:
    """Record what a server starts with, and keep its archives by a link, so that `rollback` can return to them.

    Args:
        run_dir: of the server.
        home: the model store, if it is a folder.
        profile: that replaces the archives' own.
        archives: model name to the archive as it was found.
    """
    contents = {name: contents_hash(file) for name, file in archives.items()}
    kept = dict(archives)
    if home is not None:
        with suppress(ServerError, OSError), exclusive(lock_file(home), ""):
            kept = {name: _keep_by_link(home, read_manifest(file), contents[name]) for name, file in archives.items()}
            prune(home, read_state(home), set(kept.values()))
    store = "" if home is None else str(home.resolve())
    profile = str(Path(profile).resolve()) if profile is not None and Path(profile).is_file() else profile
    Origin(store, profile, {name: str(file.resolve()) for name, file in kept.items()}, contents).write(run_dir)


@dataclass(frozen=True)
class Origin:
    """What a server was started with."""

    model_store: str = ""  # the folder, or empty if what is deployed cannot be kept there
    profile: str | None = None  # that replaces the archives' own
    archives: dict[str, str] = field(default_factory=dict)  # model name to the path, before the profile was replaced
    contents: dict[str, str] = field(default_factory=dict)  # model name to the `contents_hash`

    def write(self, run_dir: Path) -> None:
        """Write it into the run directory."""
        with atomic_write(run_dir / _ORIGIN) as file:
            file.write(orjson.dumps(asdict(self)))


def read_origin(run_dir: Path) -> Origin:
    """The origin of the server in this run directory; empty if it was not started from a model store."""
    file = run_dir / _ORIGIN
    return Origin(**orjson.loads(file.read_bytes())) if file.is_file() else Origin()


@contextmanager
def exclusive(file: Path, refusal: str) -> Iterator[None]:
    """Hold the lock on a file, which is created if missing.

    Raises:
        ServerError: another process holds it; the message is `refusal`.
    """
    with file.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ServerError(refusal) from error
        yield


def lock_file(home: Path) -> Path:
    """The file to lock with `exclusive` before the folder `deployed` is changed."""
    (home / FOLDER).mkdir(exist_ok=True)
    return home / FOLDER / ".lock"


def _keep_by_link(home: Path, archive: Manifest, contents: str) -> Path:
    """`keep` without the time that a copy takes; on a file system without hard links the archive stays where it is.

    If the user's file is written into, so is this one, which the contents hash tells.
    """
    target = kept_path(home, archive, contents)
    return target if target.exists() or _linked(archive.path, target) else archive.path


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


def to_plain(history: History, home: Path) -> dict[str, Any]:
    """A history as JSON holds it: archives in `home` by their path in it."""
    values = asdict(history)
    for release in (values["live"], *values["previous"], *filter(None, [values["withdrawn"]])):
        path = release.pop("path")
        release["file"] = str(path.relative_to(home) if path.is_relative_to(home) else path)
    return values


def from_plain(values: Mapping[str, Any], home: Path) -> History:
    """What `to_plain` was given."""
    previous = tuple(_release(each, home) for each in values["previous"])
    withdrawn = values.get("withdrawn")
    return History(_release(values["live"], home), previous, _release(withdrawn, home) if withdrawn else None)


def _release(values: Mapping[str, Any], home: Path) -> Release:
    known = {each.name for each in fields(Release)}
    return Release(path=home / values["file"], **{name: value for name, value in values.items() if name in known})
