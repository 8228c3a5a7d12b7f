"""Deploy another version of a model to a running server, and go back, without losing a request.

The new version is verified, registered beside the old one, has to become ready and to predict its golden samples, and
only then becomes the default. The old one finishes the requests that it has and is removed. switch.py does that, and
undoes it if anything fails.
"""

import logging
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from simplenet.errors import ServerError
from simplenet.paths import PathLike
from simplenet.server import registered
from simplenet.server.deployments import Deployments, Say, release_of
from simplenet.server.disk import in_words
from simplenet.server.file_lock import exclusive
from simplenet.server.frontend import is_own
from simplenet.server.history import History, Release
from simplenet.server.kept_archives import contents_hash, keep_copy, lock_file
from simplenet.server.model_store import verified_archive
from simplenet.server.record import Server, find
from simplenet.server.switch import finish_interrupted, switch
from simplenet.settings import DEFAULT_PORT

logger = logging.getLogger(__name__)
_LOCK = "rollout.lock"  # in the run directory


def deploy(archive: PathLike, *, port: int = DEFAULT_PORT, keep: bool = False, say: Say = logger.info) -> Release:
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
    with _deployments_on(port, say) as deployments:
        verified, contents = verified_archive(archive), contents_hash(Path(archive))
        model, version = verified.model_name, verified.version
        deployments.model = model
        before = deployments.history_of(model)
        deployments.refuse_changed(verified, contents, before)
        if before is not None and before.live.version == version:
            say(f"{model} {version} is already live")
            return before.live
        release = release_of(verified, keep_copy(deployments.home, verified, contents), contents)
        switch(deployments, verified, before.deploy(release) if before else History(release), keep)
        return release


def rollback(model: str | None = None, *, port: int = DEFAULT_PORT, say: Say = logger.info) -> Release:
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
    with _deployments_on(port, say) as deployments:
        model = _only_model(deployments.server) if model is None else model
        _require_served(deployments.server, model)
        deployments.model = model
        before = deployments.history_of(model)
        if before is None or not before.previous:
            raise ServerError(
                f"{model}: no version was live before {deployments.server.versions[model]}; "
                "make another live with simplenet deploy ARCHIVE"
            )
        previous = before.previous[0]
        archive = verified_archive(previous.path)
        if contents_hash(previous.path) != previous.contents:
            raise ServerError(f"{previous.path}: expected the archive that was deployed, found another")
        switch(deployments, archive, before.roll_back(), keep_workers=False)
        command = f"simplenet deploy {shlex.quote(str(before.live.path))} --port {port}"
        say(f"{model} {before.live.version} is withdrawn; to make it live again: {command}")
        return previous


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
    if model is not None:
        _require_served(server, model)
    deployments = Deployments(server, logger.info)
    return [status for name in ([model] if model else server.models) for status in _statuses(deployments, name)]


def _statuses(deployments: Deployments, model: str) -> list[VersionStatus]:
    """What is known about each version of a model, the live one first."""
    server = deployments.server
    history, known = deployments.history_of(model, look_only=True), registered.versions_of(server, model)
    live = server.versions[model]
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


@contextmanager
def _deployments_on(port: int, say: Say) -> Iterator[Deployments]:
    """The server on `port`, for one deployment at a time, with what an earlier one left finished or undone."""
    server = _running(port)
    if not is_own(server.run_dir):
        raise ServerError(
            f"the server on port {port} runs TorchServe's own frontend, whose management port has no token: "
            "start it without SIMPLENET_FRONTEND=stock to deploy to it, or restart it with the new archive"
        )
    refusal = f"port {port}: another deployment is under way; try again when it has ended"
    with exclusive(server.run_dir / _LOCK, refusal):
        deployments = Deployments(find(port), say)
        deployments.choose_home()
        home = deployments.home
        refusal = f"{home}: another deployment is under way; try again"
        with exclusive(lock_file(home), refusal):
            with _what_is_live(deployments):
                finish_interrupted(deployments)
            with _what_is_live(deployments):
                yield deployments


@contextmanager
def _what_is_live(deployments: Deployments) -> Iterator[None]:
    """A signal, or an error of the disk, is told with what is live now.

    Raises:
        ServerError: the body raised an OSError.
        KeyboardInterrupt: the body did.
    """
    before = deployments.server.versions
    try:
        yield
    except (OSError, KeyboardInterrupt) as error:
        model, live = deployments.model, deployments.server.versions.get(deployments.model)
        if live is None:
            state = "nothing has changed"
        elif live == before.get(model):
            state = f"{model} {live} is still live"
        else:
            state = f"{model} {live} is live; the next deploy finishes what is left to do"
        if isinstance(error, OSError):
            raise ServerError(f"{in_words(error)}; {state}") from error
        deployments.say(f"interrupted; {state}")
        raise


def _running(port: int) -> Server:
    server = find(port)
    if server.process() is None:
        raise ServerError(f"the server on port {port} has died; start it again with simplenet serve --port {port}")
    if server.is_stopping:
        raise ServerError(f"the server on port {port} is being stopped")
    return server


def _only_model(server: Server) -> str:
    if len(server.models) != 1:
        raise ServerError(f"model: expected one of {', '.join(server.models)}, found none")
    return server.models[0]


def _require_served(server: Server, model: str) -> None:
    if model not in server.models:
        raise ServerError(f"model: expected one of {', '.join(server.models)}, found {model!r}")
