"""The run directory of a server: named after its port, private to this user, for one server at a time."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simplenet.errors import ServerError

RECORD = "server.json"  # names the process that serves from the folder
STATES = "state"  # the folder of the workers' state files
ENDED = "ended.txt"  # why the server ended by itself
TOKEN = "management.token"  # only this user can read it
STOPPING = "stopping"  # a file that is there while the server is being stopped


def run_root() -> Path:
    """The folder of all run directories: short, because socket paths are limited to about 100 characters."""
    return Path(tempfile.gettempdir()) / f"simplenet-{os.getuid()}"


@contextmanager
def claimed(port: int) -> Iterator[int]:
    """Hold the lock on the port's run directory; a process that inherits the descriptor holds it until it ends.

    Raises:
        ServerError: another process holds it.
    """
    root = run_root()
    root.mkdir(mode=0o700, exist_ok=True)
    if not is_owned(root):
        raise ServerError(f"{root}: expected a folder that this user owns, found another user's")
    # Beside the run directory, which is recreated; never deleted: a lock on a deleted file keeps nobody out.
    with (root / f"{port}.lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ServerError(
                f"port {port}: another server is being started or stopped there; "
                "try again, or choose another with --port"
            ) from error
        yield file.fileno()


@contextmanager
def new_run_dir(port: int) -> Iterator[tuple[Path, int]]:
    """An empty run directory for `port`, and the descriptor of its lock, for the server to inherit.

    If the body raises, only the logs stay.

    Raises:
        ServerError: another server is starting or stopping there.
    """
    with claimed(port) as lock:
        run_dir = run_root() / str(port)
        shutil.rmtree(run_dir, ignore_errors=True)
        try:
            for name in ("tmp", "logs", "models", STATES):
                (run_dir / name).mkdir(parents=True)
            yield run_dir, lock
        except BaseException:
            if not (run_dir / RECORD).exists():  # otherwise a server runs there
                tidy(run_dir)
            raise


def tidy(run_dir: Path) -> None:
    """Remove the files of a server that has ended, except its logs."""
    for name in (RECORD, STOPPING, TOKEN):
        (run_dir / name).unlink(missing_ok=True)
    for name in ("tmp", "models", "store", "frontend", STATES):
        shutil.rmtree(run_dir / name, ignore_errors=True)


def is_owned(folder: Path) -> bool:
    """Whether this user owns the folder: in a shared temp directory anyone could create it, with any record in it."""
    return not folder.is_symlink() and folder.stat().st_uid == os.getuid()
