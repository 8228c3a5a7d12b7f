"""Which version of each model is live, and which were before: what survives a restart of the server.

The state is a small JSON file in the model store, `deployed.json`; the archives that it names are beside it
(kept_archives.py). Where the store cannot be written to (a bucket, a read-only mount, `serve --checkpoint`), both are
in the run directory, and a new start forgets them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from simplenet.atomic import atomic_write
from simplenet.errors import ServerError
from simplenet.server.disk import naming
from simplenet.server.json_fields import from_json

STATE = "deployed.json"
KEPT = "deployed"  # the folder of the archives that it names
PREVIOUS_KEPT = 3  # archives of each model to which `rollback` can return


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
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ServerError(
            f"{file}: expected what simplenet deploy writes, found something else ({type(error).__name__}: {error}); "
            f"delete it, and the archives in {home} are served; those that were deployed stay in {home / KEPT}: "
            f"simplenet deploy ARCHIVE makes one live again{_newest(home)}"
        ) from error


def _newest(home: Path) -> str:
    """The archive that was deployed last, in a message."""
    archives = copies(home)
    return f", the newest is {archives[-1]}" if archives else ""


def copies(home: Path) -> list[Path]:
    """The archives that were deployed and are kept, the newest last."""
    return sorted((home / KEPT).glob("*.mar"), key=lambda file: file.stat().st_mtime)


def write_state(home: Path, histories: Mapping[str, History]) -> None:
    """Write the history of each model, whole or not at all."""
    models = {name: to_plain(history, home) for name, history in histories.items()}
    with naming(home / STATE), atomic_write(home / STATE) as file:
        file.write(orjson.dumps({"models": models}, option=orjson.OPT_INDENT_2))


def to_plain(history: History, home: Path) -> dict[str, Any]:
    """A history as JSON holds it: archives in `home` by their path in it."""
    values = asdict(history)
    for release in (values["live"], *values["previous"], *filter(None, [values["withdrawn"]])):
        path = release.pop("path")
        release["file"] = str(path.relative_to(home) if path.is_relative_to(home) else path)
    return values


def from_plain(values: Mapping[str, Any], home: Path) -> History:
    """What `to_plain` was given.

    Raises:
        ValueError, TypeError, KeyError or AttributeError: it is something else.
    """
    withdrawn = values.get("withdrawn")
    releases = {
        "live": _with_path(values["live"], home),
        "previous": [_with_path(each, home) for each in values["previous"]],
        "withdrawn": _with_path(withdrawn, home) if withdrawn else None,
    }
    return from_json(History, releases)


def _with_path(release: Mapping[str, Any], home: Path) -> dict[str, Any]:
    return {**release, "path": str(home / release["file"])}
