"""What a server was started with: its model store, its profile, and its archives, to which `rollback` can return."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

from simplenet.atomic import atomic_write
from simplenet.errors import ServerError
from simplenet.manifest import read_manifest
from simplenet.server.disk import naming
from simplenet.server.file_lock import exclusive
from simplenet.server.json_fields import from_json
from simplenet.server.kept_archives import contents_hash, keep_link, lock_file, prune_links
from simplenet.text import first_line

_ORIGIN = Path("models") / "origin.json"  # in the run directory


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
            kept = {name: keep_link(home, read_manifest(file), contents[name]) for name, file in archives.items()}
            prune_links(home, set(kept.values()))
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
        with naming(run_dir / _ORIGIN), atomic_write(run_dir / _ORIGIN) as file:
            file.write(orjson.dumps(asdict(self)))


def read_origin(run_dir: Path) -> Origin:
    """The origin of the server in this run directory; empty if it was not started from a model store.

    Raises:
        ServerError: its file is not what `Origin.write` writes.
    """
    file = run_dir / _ORIGIN
    if not file.is_file():
        return Origin()
    try:
        return from_json(Origin, orjson.loads(file.read_bytes()))
    except ValueError as error:
        raise ServerError(
            f"{file}: expected what a server was started with, found {first_line(error)}; "
            f"start the server again: simplenet stop --port {run_dir.name}, then simplenet serve"
        ) from error
