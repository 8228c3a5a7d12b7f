"""Deploy another version of a model to a running server, and go back, without losing a request.

The new version is verified, registered beside the old one, has to become ready and to predict its golden samples, and
only then becomes the default. The old one finishes the requests that it has and is removed. If anything fails before
the new one is the default, it is removed, and nothing has changed. If this process is killed, the next deployment
finishes or undoes what it was about (journal.py).
"""

import logging
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from simplenet.archive import Archive, read_archive
from simplenet.archive.profile import with_profile
from simplenet.errors import ServerError, SimpleNetError
from simplenet.manifest import read_manifest
from simplenet.paths import PathLike
from simplenet.server import registered
from simplenet.server.deployed import (
    STATE,
    History,
    Release,
    contents_hash,
    exclusive,
    from_plain,
    is_writable,
    keep,
    lock_file,
    prune,
    read_origin,
    read_state,
    to_plain,
    write_state,
)
from simplenet.server.frontend import is_own
from simplenet.server.gpus import count_gpus, whole_number, workers_of
from simplenet.server.journal import Journal, read_journal, remove_journal
from simplenet.server.model_store import sample_request, verified_archive
from simplenet.server.ready import writes_state
from simplenet.server.record import Server, find, write_record
from simplenet.server.registered import Candidate
from simplenet.server.root_cause import log_sizes
from simplenet.settings import DEFAULT_PORT

if TYPE_CHECKING:
    Say = Callable[[str], None]

logger = logging.getLogger(__name__)
_LOCK = "rollout.lock"  # in the run directory


def deploy(archive: PathLike, *, port: int = DEFAULT_PORT, keep: bool = False, say: "Say" = logger.info) -> Release:
    """Make an archive the live version of its model on a running server; a model that is not served yet is added.

    Args:
        archive: a .mar file; the server keeps a link or a copy.
        port: of the server's predictions, on this machine.
        keep: whether the version that was live keeps its workers; otherwise all other versions are removed.
        say: called with one line for each thing that happens.

    Returns:
        The live release.

    Raises:
        SimpleNetError: the archive is refused or cannot be served; what was live still is.

    Example:
        >>> deploy("new/simplenet.mar", port=8080).version  # doctest: +SKIP
        '2.0'
    """
    with _rollout(port, say) as rollout:
        return rollout.deploy(Path(archive), keep)


def rollback(model: str | None = None, *, port: int = DEFAULT_PORT, say: "Say" = logger.info) -> Release:
    """Make the version that was live before live again, by the same steps as `deploy`.

    Args:
        model: its name; may be left out if the server has only one.
        port: of the server's predictions, on this machine.
        say: called with one line for each thing that happens.

    Returns:
        The live release.

    Raises:
        SimpleNetError: there is no previous version, or it cannot be served; what was live still is.

    Example:
        >>> rollback(port=8080).version  # doctest: +SKIP
        '1.0'
    """
    with _rollout(port, say) as rollout:
        return rollout.roll_back(model)


@dataclass(frozen=True)
class VersionStatus:
    """One version of a model on a running server."""

    model: str
    version: str
    status: str  # live; kept: it has workers too; previous: `rollback` can return to it; withdrawn: by a rollback
    release: Release


def versions(model: str | None = None, *, port: int = DEFAULT_PORT) -> list[VersionStatus]:
    """The versions of one model, or of all, on a running server; the live one first.

    Raises:
        ServerError: no server runs there, or it has no such model.

    Example:
        >>> [(each.version, each.status) for each in versions(port=8080)]  # doctest: +SKIP
        [('2.0', 'live'), ('1.0', 'previous')]
    """
    server = _running(port)
    if model is not None and model not in server.models:
        raise ServerError(f"model: expected one of {', '.join(server.models)}, found {model!r}")
    rollout = Rollout(server, logger.info)
    return [status for name in ([model] if model else server.models) for status in rollout.statuses(name)]


class Rollout:
    """The state of one server and of what was deployed to it.

    Args:
        server: a running one.
        say: called with one line for each thing that happens.
    """

    def __init__(self, server: Server, say: "Say") -> None:
        self.server, self.say = server, say
        self.origin = read_origin(server.run_dir)
        self.home = server.run_dir / "models"  # forgotten when the server stops
        self.histories = read_state(self.home)
        self.store = Path(self.origin.model_store) if self.origin.model_store else None
        if self.store is not None and not (self.home / STATE).exists():
            self.histories = read_state(self.store)

    def deploy(self, file: Path, keep_workers: bool) -> Release:
        """`deploy`, with the locks held."""
        archive, contents = verified_archive(file), contents_hash(file)
        model, version = archive.model_name, archive.version
        before = self._history(model)
        self._refuse_changed(archive, contents, before)
        if before is not None and before.live.version == version:
            self.say(f"{model} {version} is already live")
            return before.live
        release = _release(archive, keep(self.home, archive, contents), contents)
        after = before.deploy(release) if before else History(release)
        self._switch(archive, before, after, keep_workers)
        return release

    def roll_back(self, model: str | None) -> Release:
        """`rollback`, with the locks held."""
        if model is None:
            if len(self.server.models) != 1:
                raise ServerError(f"model: expected one of {', '.join(self.server.models)}, found none")
            (model,) = self.server.models
        if model not in self.server.models:
            raise ServerError(f"model: expected one of {', '.join(self.server.models)}, found {model!r}")
        before = self._history(model)
        if before is None or not before.previous:
            raise ServerError(
                f"{model}: no version was live before {self.server.versions[model]}; "
                "make another live with simplenet deploy ARCHIVE"
            )
        previous = before.previous[0]
        archive = verified_archive(previous.path)
        if contents_hash(previous.path) != previous.contents:
            raise ServerError(f"{previous.path}: expected the archive that was deployed, found another")
        self._switch(archive, before, before.roll_back(), keep_workers=False)
        command = f"simplenet deploy {shlex.quote(str(before.live.path))} --port {self.server.port}"
        self.say(f"{model} {before.live.version} is withdrawn; to make it live again: {command}")
        return previous

    def statuses(self, model: str) -> list[VersionStatus]:
        """What is known about each version of a model, the live one first."""
        history, known = self._history(model, look_only=True), registered.versions_of(self.server, model)
        live = self.server.versions[model]
        if history is None:
            history = History(Release(live, Path(), ""))
        withdrawn = history.withdrawn.version if history.withdrawn else None
        return [
            VersionStatus(
                model,
                release.version,
                "live" if release.version == live
                else "kept" if release.version in known
                else "withdrawn" if release.version == withdrawn
                else "previous",
                release,
            )
            for release in history.releases()
        ]  # fmt: skip

    def finish_interrupted(self) -> None:
        """Finish or undo the deployment that was killed, if one was."""
        journal = read_journal(self.server.run_dir)
        if journal is None:
            return
        default = registered.default_version(self.server, journal.model)
        name = f"{journal.model} {journal.version}"
        if journal.is_live or (journal.leaving and default == journal.version):
            self.say(f"{name}: finishing the deployment that was interrupted")
            after = from_plain(journal.after, self.home)
            self._settle(journal, self._candidate(read_archive(after.live.path), after.live), after)
        else:
            self.say(f"{name}: undoing the deployment that was interrupted")
            self._undo(journal)

    def choose_home(self) -> None:
        """Keep what is deployed in the model store if it can be written to, so that a restart serves it."""
        if self.store is not None and is_writable(self.store):
            self.home = self.store
            self.histories = read_state(self.store)
            return
        why = f"{self.store} cannot be written to" if self.store else "it does not serve a local model store"
        self.say(f"what is deployed lasts until the server on port {self.server.port} is stopped: {why}")

    def _history(self, model: str, look_only: bool = False) -> History | None:
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

    def _first_release(self, model: str, version: str, look_only: bool) -> Release | None:
        """The archive that the server started with, unless it was replaced since."""
        path = Path(self.origin.archives.get(model) or (self.server.run_dir / "store" / f"{model}.mar").resolve())
        with suppress(SimpleNetError):
            archive = read_archive(path)
            contents = contents_hash(path)
            if archive.version == version and contents == self.origin.contents.get(model, contents):
                kept = path if look_only else keep(self.home, archive, contents)
                return replace(_release(archive, kept, contents), deployed="")
        if not look_only:
            self.say(f"{model} {version}: {path} was replaced since the server started: rollback cannot return to it")
        return None

    def _refuse_changed(self, archive: Archive, contents: str, history: History | None) -> None:
        """A version means one archive: refuse another with the same version."""
        known = history.find(archive.version) if history else None
        expected = known.contents if known else None
        if self.server.versions.get(archive.model_name) == archive.version and known is None:
            expected = self.origin.contents.get(archive.model_name, "")
        if expected is not None and expected != contents:
            raise ServerError(
                f"{archive.path}: {archive.model_name} {archive.version} was deployed with other contents; "
                "give this one a version of its own: simplenet archive CHECKPOINT --version …"
            )

    def _candidate(self, archive: Archive, release: Release) -> Candidate:
        """What TorchServe gets: the archive, with the profile that the server was started with."""
        from simplenet.checkpoint.keys import CONTENT_HASH, METADATA

        path = release.path
        if self.origin.profile is not None:
            path = self.server.run_dir / "models" / path.name
            with_profile(release.path, self.origin.profile, path)
        settings = read_manifest(path).settings
        chosen = self.server.model_workers.get(archive.model_name)
        return Candidate(
            replace(archive, path=path, settings=settings),
            f"version-{release.contents[:12]}.mar",
            workers_of(settings, chosen, count_gpus()),
            str(archive.checkpoint[METADATA][CONTENT_HASH]),
        )

    def _switch(self, archive: Archive, before: History | None, after: History, keep_workers: bool) -> None:
        """Bring a version up, make it the default, let the others finish."""
        model, version, server = archive.model_name, archive.version, self.server
        known = registered.versions_of(server, model)
        candidate = self._candidate(archive, after.live)
        journal = Journal(
            model, version, server.versions.get(model, ""), keep_workers, version in known,
            to_plain(self.histories[model], self.home) if model in self.histories else None,
            to_plain(after, self.home),
        ).write(server.run_dir)  # fmt: skip
        try:
            self.say(f"{candidate.name}: verified, content hash {candidate.content_hash[:12]}")
            if version in known:
                registered.wait_until_served(server, candidate, log_sizes(server.logs))
            else:
                self._bring_up(candidate)
            self.say(f"{candidate.name}: ready with {candidate.workers} worker{'s' * (candidate.workers > 1)}")
            self._write({**self.histories, model: after})  # first: it can fail, and set_default is the last that can
            registered.set_default(server, model, version)
        except BaseException as error:
            self._undo(journal)
            if isinstance(error, ServerError) and journal.leaving:
                raise ServerError(f"{error}; {model} {journal.leaving} is still live") from error
            raise
        self._settle(journal.switched(server.run_dir), candidate, after)

    def _bring_up(self, candidate: Candidate) -> None:
        link = self.server.run_dir / "store" / candidate.file
        link.unlink(missing_ok=True)
        link.symlink_to(candidate.archive.path.resolve())
        try:
            registered.bring_up(self.server, candidate)
        finally:
            link.unlink(missing_ok=True)  # TorchServe has unpacked it

    def _settle(self, journal: Journal, candidate: Candidate, after: History) -> None:
        """The new version is the default: record it, and let the others finish."""
        model = journal.model
        self._write({**self.histories, model: after})
        self.server = _with_version(self.server, candidate)
        write_record(self.server)
        before = f"; {journal.leaving} was before" if journal.leaving else ""
        self.say(f"{candidate.name} is live at {self.server.url}/predictions/{model}{before}")
        if not journal.keep:
            self._remove_others(model, journal.version)
        prune(self.home, self.histories, {Path(path) for path in self.origin.archives.values()})
        remove_journal(self.server.run_dir)

    def _remove_others(self, model: str, live: str) -> None:
        for version in registered.versions_of(self.server, model):
            if version == live:
                continue
            if registered.finish_requests(self.server, model, version):
                registered.unregister(self.server, model, version)
                self.say(f"{model} {version}: finished its requests; removed")
            else:
                self.say(
                    f"{model} {version}: keeps its workers: clients that name this version still send requests; "
                    "the next deploy tries again"
                )

    def _undo(self, journal: Journal) -> None:
        """The new version did not become live: take away what was begun, and keep the journal if that fails."""
        model, version, server = journal.model, journal.version, self.server
        histories = {name: history for name, history in self.histories.items() if name != model}
        if journal.before is not None:
            histories[model] = from_plain(journal.before, self.home)
        with suppress(SimpleNetError, OSError):
            self._write(histories)
            if server.process() is not None and version in registered.versions_of(server, model):
                if journal.leaving and registered.default_version(server, model) == version:
                    registered.set_default(server, model, journal.leaving)
                    registered.finish_requests(server, model, version)
                if not journal.was_registered:
                    registered.unregister(server, model, version)
            live = {Path(path) for path in self.origin.archives.values()}
            prune(self.home, self.histories, live)
            remove_journal(server.run_dir)

    def _write(self, histories: dict[str, History]) -> None:
        if histories != self.histories:
            write_state(self.home, histories)
        self.histories = histories


@contextmanager
def _rollout(port: int, say: "Say") -> Iterator[Rollout]:
    """The server on `port`, for one deployment at a time, with what an earlier one left finished or undone."""
    server = _running(port)
    if not is_own(server.run_dir):
        raise ServerError(
            f"the server on port {port} runs TorchServe's own frontend, whose management port has no token: "
            "start it without SIMPLENET_FRONTEND=stock to deploy to it, or restart it with the new archive"
        )
    refusal = f"port {port}: another deployment is under way; try again when it has ended"
    with exclusive(server.run_dir / _LOCK, refusal):
        rollout = Rollout(find(port), say)
        rollout.choose_home()
        with exclusive(lock_file(rollout.home), f"{rollout.home}: another deployment is under way; try again"):
            rollout.finish_interrupted()
            yield rollout


def _running(port: int) -> Server:
    server = find(port)
    if server.process() is None:
        raise ServerError(f"the server on port {port} has died; start it again with simplenet serve --port {port}")
    if server.is_stopping:
        raise ServerError(f"the server on port {port} is being stopped")
    return server


def _release(archive: Archive, path: Path, contents: str) -> Release:
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


def _with_version(server: Server, candidate: Candidate) -> Server:
    """The server's record, with this version of its model."""
    archive = candidate.archive
    model = archive.model_name
    content_type, sample = sample_request(archive, server.run_dir)
    silent = {*server.silent_models, model} if not writes_state(archive.path) else {*server.silent_models} - {model}
    return replace(
        server,
        models=tuple(dict.fromkeys((*server.models, model))),
        versions={**server.versions, model: archive.version},
        model_workers={**server.model_workers, model: candidate.workers},
        silent_models=tuple(sorted(silent)),
        startup_timeout_s=max(server.startup_timeout_s, whole_number(archive.settings, "startupTimeout")),
        response_timeout_s=max(server.response_timeout_s, whole_number(archive.settings, "responseTimeout")),
        samples={**server.samples, model: (content_type, str(sample))},
    )
