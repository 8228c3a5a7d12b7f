"""What a deployment is about to change, so that the next one can finish or undo it if this one is killed."""

import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from simplenet.atomic import atomic_write
from simplenet.errors import ServerError
from simplenet.server.disk import naming
from simplenet.server.history import from_plain
from simplenet.server.json_fields import from_json
from simplenet.text import first_line

_FILE = "rollout.json"  # in the run directory; a new start of the server removes it, with what was half done


@dataclass(frozen=True)
class Journal:
    """One deployment or rollback under way."""

    model: str
    version: str  # on its way to being live
    leaving: str  # the version that was live, or empty if the model is new
    keep: bool  # whether that one keeps its workers
    was_registered: bool  # whether TorchServe had the new version before
    before: dict[str, Any] | None  # the model's history, as `to_plain` gives it
    after: dict[str, Any]
    is_live: bool = False

    def write(self, run_dir: Path) -> "Journal":
        """Write it into the run directory."""
        with naming(run_dir / _FILE), atomic_write(run_dir / _FILE) as file:
            file.write(orjson.dumps(asdict(self)))
        return self

    def switched(self, run_dir: Path) -> "Journal":
        """Note that the new version is live: from now on it is finished, not undone."""
        return replace(self, is_live=True).write(run_dir)


def read_journal(run_dir: Path) -> Journal | None:
    """The deployment that was interrupted in this run directory, if one was.

    Raises:
        ServerError: its file is not what `Journal.write` writes.
    """
    file = run_dir / _FILE
    if not file.is_file():
        return None
    try:
        journal = from_json(Journal, orjson.loads(file.read_bytes()))
        for history in (journal.before, journal.after):
            if history is not None:
                from_plain(history, run_dir)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ServerError(
            f"{file}: expected a deployment that was interrupted, found {first_line(error)}; to go on from what is "
            f"live: rm {shlex.quote(str(file))}, and try again"
        ) from error
    return journal


def remove_journal(run_dir: Path) -> None:
    """Nothing is under way any more."""
    (run_dir / _FILE).unlink(missing_ok=True)
