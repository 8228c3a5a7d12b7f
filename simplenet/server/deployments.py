"""What was deployed to one running server: the histories of its models, and the archives that they name."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from simplenet.archive import Archive, read_archive
from simplenet.errors import ServerError, SimpleNetError
from simplenet.server.history import STATE, History, Release, read_state, write_state
from simplenet.server.kept_archives import contents_hash, is_writable, keep_copy, prune
from simplenet.server.origin import read_origin
from simplenet.server.record import Server

Say = Callable[[str], None]  # called with one line for each thing that happens


class Deployments:
    """One server, and what was deployed to it.

    Args:
        server: a running one; `switch` puts the record with the new version here.
        say: called with one line for each thing that happens.
    """

    def __init__(self, server: Server, say: Say) -> None:
        self.server, self.say = server, say
        self.model = ""  # the one that is being deployed
        self.origin = read_origin(server.run_dir)
        self.home = server.run_dir / "models"  # forgotten when the server stops
        self.histories = read_state(self.home)
        self._store = Path(self.origin.model_store) if self.origin.model_store else None
        if self._store is not None and not (self.home / STATE).exists():
            self.histories = read_state(self._store)
        self._named: set[Path] = set()  # the archives that histories named while this is in use

    def choose_home(self) -> None:
        """Keep what is deployed in the model store if it can be written to, so that a restart serves it."""
        if self._store is not None and is_writable(self._store):
            self.home = self._store
            self.histories = read_state(self._store)
            return
        why = f"{self._store} cannot be written to" if self._store else "it does not serve a local model store"
        self.say(f"what is deployed lasts until the server on port {self.server.port} is stopped: {why}")

    def history_of(self, model: str, look_only: bool = False) -> History | None:
        """The history whose live release is what the server serves; None if the model is new or its archive is gone."""
        version = self.server.versions.get(model)
        if version is None:
            return None
        history = self.histories.get(model)
        if history is not None and history.live.version == version:
            return history
        known = history.find(version) if history is not None else None
        live = known or self._first_release(model, version, look_only)
        if live is None:
            return None
        return history.deploy(live) if history is not None else History(live)

    def refuse_changed(self, archive: Archive, contents: str, history: History | None) -> None:
        """A version means one archive: refuse another with the same version.

        Raises:
            ServerError: this version was deployed with other contents.
        """
        known = history.find(archive.version) if history else None
        expected = known.contents if known else None
        if self.server.versions.get(archive.model_name) == archive.version and known is None:
            expected = self.origin.contents.get(archive.model_name, "")
        if expected is not None and expected != contents:
            raise ServerError(
                f"{archive.path}: {archive.model_name} {archive.version} was deployed with other contents; "
                "give this one a version of its own: simplenet archive CHECKPOINT --version …"
            )

    def write(self, histories: dict[str, History]) -> None:
        """Replace the histories, here and in the state file."""
        self.remember(*self.histories.values())
        if histories != self.histories:
            write_state(self.home, histories)
        self.histories = histories

    def remember(self, *histories: History) -> None:
        """Note the archives of histories that come or go: `prune` deletes those that are left over."""
        self._named |= {release.path for history in histories for release in history.releases()}

    def prune(self) -> None:
        """Delete the archives to which nothing can return any more, of those that a history named."""
        kept = {release.path for history in self.histories.values() for release in history.releases()}
        prune(self.home, self._named, kept | {Path(path) for path in self.origin.archives.values()})

    def _first_release(self, model: str, version: str, look_only: bool) -> Release | None:
        """The archive that the server started with, unless it was replaced since."""
        path = Path(self.origin.archives.get(model) or (self.server.run_dir / "store" / f"{model}.mar").resolve())
        with suppress(SimpleNetError):
            archive = read_archive(path)
            contents = contents_hash(path)
            if archive.version == version and contents == self.origin.contents.get(model, contents):
                kept = path if look_only else keep_copy(self.home, archive, contents)
                return replace(release_of(archive, kept, contents), deployed="")
        if not look_only:
            self.say(f"{model} {version}: {path} was replaced since the server started: rollback cannot return to it")
        return None


def release_of(archive: Archive, path: Path, contents: str) -> Release:
    """What is recorded of an archive that is deployed now.

    Args:
        archive: verified.
        path: where it is kept.
        contents: its `contents_hash`.
    """
    from simplenet.checkpoint.keys import CONTENT_HASH, METADATA

    metadata = archive.checkpoint[METADATA]
    accuracy = metadata.get("accuracy")
    return Release(
        version=archive.version,
        path=path,
        contents=contents,
        content_hash=str(metadata[CONTENT_HASH]),
        deployed=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        accuracy=float(accuracy) if isinstance(accuracy, (int, float)) else None,
    )
