"""The run directory of a server: named after its port, private to this user, for one server at a time.

Where it is, the first that can be used:

1. `$XDG_STATE_HOME/simplenet`, or `~/.local/state/simplenet`: on a disk, and nothing cleans it. TorchServe unpacks the
   models into the run directory, and a running server needs its sockets and files for months.
2. `$XDG_RUNTIME_DIR/simplenet`: as private, but in memory, limited in size, and gone when the user logs out.
3. `/tmp/simplenet-<uid>`, or the temp directory that TMPDIR names: cleaned by age. The lock on the folder, which the
   server holds as long as it runs, keeps systemd-tmpfiles away: https://man7.org/linux/man-pages/man5/tmpfiles.d.5.html

A server is looked for in all of them: the variables may have changed since it was started.
"""

import fcntl
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from simplenet.errors import ServerError
from simplenet.settings import STATE_HOME

logger = logging.getLogger(__name__)
RECORD = "server.json"  # names the process that serves from the folder
STATES = "state"  # the folder of the workers' state files
ENDED = "ended.txt"  # why the server ended by itself
TOKEN = "management.token"  # only this user can read it
STOPPING = "stopping"  # a file that is there while the server is being stopped: the seconds that this waits
_LONGEST_SOCKET = 103  # bytes of a socket's path: 107 on Linux, 103 on macOS
_SOCKET = "65531/tmp/.ts.sock.65535"  # the longest name that TorchServe may give one, in a run root
# TorchServe passes these paths through a file of Latin-1, a class path and log4j's substitutions.
_PLAIN = re.compile(r"/[A-Za-z0-9/._+@~-]*")
_FOLDERS = ("tmp", "logs", "models", STATES)
_FILES_OF_A_RUN = ("tmp", "store", "frontend", STATES, STOPPING, TOKEN)  # made anew for each start of TorchServe


def run_roots() -> list[Path]:
    """The folders that may hold run directories, in the order of preference; not all exist or can be used."""
    roots = []
    if (state := Path(STATE_HOME.read())).is_absolute():
        roots.append(state / "simplenet")
    for name, folder in (("HOME", ".local/state/simplenet"), ("XDG_RUNTIME_DIR", "simplenet")):
        base = Path(os.environ.get(name) or ".")
        if base.is_absolute() and base.is_dir() and is_owned(base):  # with sudo, HOME may be another user's
            roots.append(base / folder)
    for temp in ("/tmp", tempfile.gettempdir()):
        roots.append(Path(temp) / f"simplenet-{os.getuid()}")
    return list(dict.fromkeys(roots))


def run_root() -> Path:
    """The folder for a new run directory; it is made.

    Raises:
        ServerError: none can be used.
    """
    roots = run_roots()
    usable = next(filter(_is_usable, roots), None)
    if usable is None:
        raise ServerError(
            f"run directory: expected a folder of this user's, writable, with a short plain path; found none among "
            f"{', '.join(map(str, roots))}; set {STATE_HOME.name} to one"
        )
    wanted = STATE_HOME.read()
    if wanted and usable != Path(wanted) / "simplenet":
        logger.warning(
            "%s: expected an absolute, short path of ASCII letters to a folder of this user's, found %r; "
            "the run directory is in %s", STATE_HOME.name, wanted, usable,
        )  # fmt: skip
    return usable


def _is_usable(root: Path) -> bool:
    """Whether TorchServe can work there. The folder is made if its path is short and plain."""
    if len(os.fsencode(root / _SOCKET)) > _LONGEST_SOCKET or not _PLAIN.fullmatch(str(root)):
        return False
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        return is_owned(root) and os.access(root, os.W_OK | os.X_OK)
    except OSError:
        return False


@contextmanager
def claimed(port: int, root: Path | None = None) -> Iterator[int]:
    """Hold the lock on the port's run directory; a process that inherits the descriptor holds it until it ends.

    Args:
        port: of the server.
        root: the folder of the run directory; by default that of a new one.

    Raises:
        ServerError: another process holds it, or there is no folder for it.
    """
    root = root or run_root()
    # The lock is on the folder itself, which a cleaner respects. NFS has no locks on folders: there it is on the file.
    with (root / f"{port}.lock").open("ab") as file:
        _lock(file.fileno(), port)
        (root / str(port)).mkdir(mode=0o700, exist_ok=True)
        folder = os.open(root / str(port), os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield folder if _lock(folder, port) else file.fileno()
        finally:
            os.close(folder)


def _lock(descriptor: int, port: int) -> bool:
    """Lock it; False if the file system cannot."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ServerError(
            f"port {port}: another server is being started or stopped there; try again, or choose another with --port"
        ) from error
    except OSError:
        return False
    return True


@contextmanager
def new_run_dir(port: int) -> Iterator[tuple[Path, int]]:
    """An empty run directory for `port`, and the descriptor of its lock, for the server to inherit.

    If the body raises, only the logs stay.

    Raises:
        ServerError: another server is starting or stopping there, or there is no folder for it.
    """
    root = run_root()
    with claimed(port, root) as lock:
        run_dir = root / str(port)
        for path in run_dir.iterdir():  # the folder itself stays: the lock is on it
            _remove(path)
        try:
            for name in _FOLDERS:
                (run_dir / name).mkdir()
            yield run_dir, lock
        except BaseException:
            if not (run_dir / RECORD).exists():  # otherwise a server runs there
                tidy(run_dir)
            raise


def renew(run_dir: Path) -> None:
    """Make the run directory ready for another start of TorchServe; the archives stay, the logs are moved aside."""
    (run_dir / RECORD).unlink(missing_ok=True)
    for name in _FILES_OF_A_RUN:
        _remove(run_dir / name)
    logs = run_dir / "logs"
    aside = logs / f"refused-{len(list(logs.glob('refused-*'))) + 1}"
    files = [path for path in logs.iterdir() if path.is_file()]
    aside.mkdir()
    for path in files:
        path.rename(aside / path.name)
    for name in _FOLDERS:
        (run_dir / name).mkdir(exist_ok=True)


def begin_stopping(run_dir: Path, timeout_s: float = 0.0) -> None:
    """Note that the server is being stopped, and how many seconds whoever does it waits for requests in flight."""
    with suppress(OSError):  # a full disk is no reason not to stop
        (run_dir / STOPPING).write_text(str(timeout_s))


def stopping_timeout_s(run_dir: Path) -> float:
    """What `begin_stopping` noted; 0 if that is nothing."""
    try:
        return float((run_dir / STOPPING).read_text())
    except (OSError, ValueError):
        return 0.0


def tidy(run_dir: Path) -> None:
    """Remove the files of a server that has ended, except its logs."""
    (run_dir / RECORD).unlink(missing_ok=True)
    for name in (*_FILES_OF_A_RUN, "models"):
        _remove(run_dir / name)


def is_owned(folder: Path) -> bool:
    """Whether this user owns the folder: in a shared temp directory anyone could create it, with any record in it."""
    try:
        return not folder.is_symlink() and folder.stat().st_uid == os.getuid()
    except OSError:
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
