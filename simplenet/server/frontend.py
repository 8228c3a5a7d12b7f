"""TorchServe 0.12's Java frontend with three constants changed that no setting reaches.

Nothing of it is rebuilt or kept: `serve` copies three classes out of the installed model-server.jar into the run
directory, changes a constant in each, and puts them in front of the jar on the class path. Each class is known by its
SHA-256; where one differs, or when SIMPLENET_FRONTEND is "stock", the frontend stays as it is. What each change is
worth is in docs/performance.md.

The form of a class file: https://docs.oracle.com/javase/specs/jvms/se17/html/jvms-4.html
"""

import hashlib
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

from simplenet.errors import ServerError

SWITCH = "SIMPLENET_FRONTEND"  # set to "stock" to keep the frontend as it is
JAR = "model-server.jar"


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
    # A buffer of netty's that outgrows 4 MiB grows by 4 MiB at a time, copied each time, as a batch of large requests
    # is written to the worker: it doubles up to 64 MiB, and grows by as much beyond.
    Change(
        "io/netty/buffer/AbstractByteBufAllocator.class",
        "4852a094a9492360701e9dabaa14ad8ba618886237f85107f174976c537937ff",
        b"\x03\x00\x40\x00\x00",  # CONSTANT_Integer 4,194,304
        b"\x03\x04\x00\x00\x00",
    ),
)


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
    if os.environ.get(SWITCH) == "stock":
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
    return f"{run_dir / 'frontend'}{os.pathsep}{jars}"
