"""TorchServe 0.12's Java frontend with three constants changed that no setting reaches, and one class of our own.

Nothing of it is rebuilt or kept: `serve` copies three classes out of the installed model-server.jar into the run
directory, changes a constant in each, and puts them in front of the jar on the class path. Each class is known by its
SHA-256; where one differs, or when SIMPLENET_FRONTEND is "stock", the frontend stays as it is. What each change is
worth is in docs/performance.md.

The class of our own, java/BodyBudgetedAggregator, limits how many bytes of bodies the frontend holds; TorchServe can
only limit how many requests wait, whether they are of 3 KB or of 16 MB. After a change to the source:

    javac --release 11 -g:none -cp .venv/lib/python3*/site-packages/ts/frontend/model-server.jar \
        -d /tmp/classes simplenet/server/java/BodyBudgetedAggregator.java
    cp /tmp/classes/simplenet/server/frontend/*.class simplenet/server/java/

The form of a class file: https://docs.oracle.com/javase/specs/jvms/se17/html/jvms-4.html
"""

import hashlib
import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

from simplenet.errors import ServerError
from simplenet.settings import FRONTEND

JAR = "model-server.jar"
_OWN_CLASSES = Path(__file__).resolve().parent / "java"


@dataclass(frozen=True)
class Change:
    """One constant of one class: `old`, which occurs once, becomes `new`, of the same length."""

    entry: str
    sha256: str  # of the class in TorchServe 0.12.0
    old: bytes
    new: bytes


# Model waits for the rest of a batch in microseconds instead of milliseconds. A maxBatchDelay of 1, the least there is
# (0 stands for 100), then is what it means to be: a lone request does not wait a millisecond for nobody.
LEAST_DELAY = Change(
    "org/pytorch/serve/wlm/Model.class",
    "7c5523f1fe77fe79aa32665469e17725e70518692abcf4987989ef72f10d4cff",
    b"\x01\x00\x0cMILLISECONDS",  # CONSTANT_Utf8, the name of the field of TimeUnit
    b"\x01\x00\x0cMICROSECONDS",
)
CHANGES = (
    LEAST_DELAY,
    # ModelServer reads 4,096 bytes of a request at a time: 16,384. Not more, for each read takes a whole buffer, and
    # up to 1,024 of them hold a body as it arrives: 16 MiB for a client that sends it in crumbs.
    Change(
        "org/pytorch/serve/ModelServer.class",
        "779d0df5bfc17c5ad09ac46d63d9a017d48a4cd68c1b7464de914d3cb40190b9",
        b"\x11\x10\x00\xb7",  # sipush 4096, invokespecial (FixedRecvByteBufAllocator)
        b"\x11\x40\x00\xb7",
    ),
    # The pipeline of a connection gets our aggregator of bodies instead of netty's, of which ours is a subclass.
    Change(
        "org/pytorch/serve/ServerInitializer.class",
        "096cdc16ec94359c5bafd0fddf4443e3d9a8c7656863d0b57bf1586fd2f8f700",
        b"\x01\x00\x30io/netty/handler/codec/http/HttpObjectAggregator",  # CONSTANT_Utf8, the name of the class
        b"\x01\x00\x30simplenet/server/frontend/BodyBudgetedAggregator",
    ),
)
AGGREGATOR = "simplenet/server/frontend/BodyBudgetedAggregator.class"


def class_path(home: Path, run_dir: Path, least_delay: bool) -> str:
    """Java's class path for TorchServe.

    Args:
        home: the installed `ts` package.
        run_dir: of the server; its folder `frontend` takes the changed classes.
        least_delay: every model asks for a maxBatchDelay of 1; a longer one keeps its unit for all of them.

    Raises:
        ServerError: the jar cannot be read.
    """
    jars = f"{home / 'frontend'}/*"
    if FRONTEND.read() == "stock":
        return jars
    try:
        with zipfile.ZipFile(home / "frontend" / JAR) as jar:
            classes = {change: jar.read(change.entry) for change in CHANGES}
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ServerError(f"{home / 'frontend' / JAR}: not TorchServe's frontend: {error}") from error
    if any(hashlib.sha256(content).hexdigest() != change.sha256 for change, content in classes.items()):
        return jars  # of another version: what these bytes mean there is not known
    if not least_delay:
        del classes[LEAST_DELAY]
    for change, content in classes.items():
        file = run_dir / "frontend" / change.entry
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.replace(change.old, change.new))
    (run_dir / "frontend" / AGGREGATOR).parent.mkdir(parents=True)
    shutil.copyfile(_OWN_CLASSES / Path(AGGREGATOR).name, run_dir / "frontend" / AGGREGATOR)
    return f"{run_dir / 'frontend'}{os.pathsep}{jars}"


def in_use(run_dir: Path) -> str:
    """Which classes of the frontend run after `class_path` was called: as the workers log it."""
    folder = run_dir / "frontend"
    if not folder.is_dir():
        return "stock"
    return "fast" if (folder / LEAST_DELAY.entry).is_file() else "fast, batch delay in ms"


def limits_bodies(run_dir: Path) -> bool:
    """Whether the frontend keeps to a budget for the bodies it holds, after `class_path` was called."""
    return (run_dir / "frontend" / AGGREGATOR).is_file()
