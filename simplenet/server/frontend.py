"""Change six places in TorchServe 0.12's Java frontend that no setting reaches, and add classes of our own.

The jar is not rebuilt: `serve` copies six classes from the installed model-server.jar into the run directory, changes
a few bytes in each, and puts them before the jar on the class path. Each class is identified by its SHA-256; if one
differs, or if SIMPLENET_FRONTEND is "stock", the frontend runs unchanged. docs/performance.md has the effect of each
change.

The added classes are in java/:

    BodyBudgetedAggregator  the bytes of all bodies have a budget; TorchServe can only limit the number of requests
    Gate                    predictions: counts what is in flight, /ping, statuses that say whether to try again
    Management              management: every request needs the token; what is in flight, drain, health
    InOrder                 one request of a connection at a time, whatever a client sends before it has its response
    Malformed               requests that are not as HTTP has them, each refused with the cause
    Queues                  no request stays in TorchServe's queues for ever
    ResponseDecoder         what a worker sends, without TorchServe's quadratic time
    Traffic, Watch, Answers, Body, Charge   what these share

After a change to their sources:

    rm simplenet/server/java/*.class
    javac --release 11 -g:none -cp .venv/lib/python3*/site-packages/ts/frontend/model-server.jar \
        -d /tmp/classes simplenet/server/java/*.java
    cp /tmp/classes/simplenet/server/frontend/*.class simplenet/server/java/

The class file format: https://docs.oracle.com/javase/specs/jvms/se17/html/jvms-4.html
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
    """A constant or an instruction of one class: `old`, which occurs once, becomes `new`.

    Those in the code must keep their length. A name in the constant pool may change its own: it follows its length.
    """

    entry: str
    sha256: str  # of the class in TorchServe 0.12.0
    old: bytes
    new: bytes


# Model waits for the rest of a batch in microseconds instead of milliseconds. With a maxBatchDelay of 1, the minimum
# (0 means 100), a lone request then does not wait a millisecond for nothing.
LEAST_DELAY = Change(
    "org/pytorch/serve/wlm/Model.class",
    "7c5523f1fe77fe79aa32665469e17725e70518692abcf4987989ef72f10d4cff",
    b"\x01\x00\x0cMILLISECONDS",  # CONSTANT_Utf8, the name of the field of TimeUnit
    b"\x01\x00\x0cMICROSECONDS",
)
CHANGES = (
    LEAST_DELAY,
    # ModelServer reads 16,384 bytes of a request at a time instead of 4,096. Not more, because each read takes a full
    # buffer and up to 1,024 of them hold an arriving body: 16 MiB for a client that sends it in tiny pieces.
    Change(
        "org/pytorch/serve/ModelServer.class",
        "779d0df5bfc17c5ad09ac46d63d9a017d48a4cd68c1b7464de914d3cb40190b9",
        b"\x11\x10\x00\xb7",  # sipush 4096, invokespecial (FixedRecvByteBufAllocator)
        b"\x11\x40\x00\xb7",
    ),
    # A connection's pipeline gets BodyBudgetedAggregator instead of its superclass, netty's aggregator.
    Change(
        "org/pytorch/serve/ServerInitializer.class",
        "096cdc16ec94359c5bafd0fddf4443e3d9a8c7656863d0b57bf1586fd2f8f700",
        b"\x01\x00\x30io/netty/handler/codec/http/HttpObjectAggregator",  # CONSTANT_Utf8, the name of the class
        b"\x01\x00\x30simplenet/server/frontend/BodyBudgetedAggregator",
    ),
    # A worker's responses are read by ResponseDecoder, which does not begin again whenever more of them has arrived.
    Change(
        "org/pytorch/serve/wlm/WorkerThread$1.class",
        "b73d1dcaff2c3fb7a4c5db9dcf3b1f13dd67b1189510a0671097e9c01c42f1bc",
        b"\x01\x00\x31org/pytorch/serve/util/codec/ModelResponseDecoder",
        b"\x01\x00\x29simplenet/server/frontend/ResponseDecoder",
    ),
    # A worker that is scaled down answers what it holds with an error. TorchServe puts it back into the queue, while
    # the worker's own thread may answer it: two responses, of which a connection takes the second for its next request.
    Change(
        "org/pytorch/serve/wlm/BatchAggregator.class",
        "a2518f61d90c11c73d18fab1da637bc03ab32a050e52be4bbd236e263c30c973",
        b"\xb6\x00\x48\x99\x00\x0d",  # invokevirtual Job.isControlCmd, ifeq (handleErrorJob)
        b"\xb6\x00\x48\x57\x00\x00",  # …, pop, nop, nop
    ),
    # GRPCServiceFactory gives the gRPC management port predictions too: it has no token, and models could be removed.
    Change(
        "org/pytorch/serve/grpcimpl/GRPCServiceFactory.class",
        "861b6fe0f5e128fd28731d85ec35aa9190809d1c343b417024201ca4fab5da5f",
        b"\x01\x00\x29org/pytorch/serve/grpcimpl/ManagementImpl",
        b"\x01\x00\x28org/pytorch/serve/grpcimpl/InferenceImpl",
    ),
)
PACKAGE = "simplenet/server/frontend"


def class_path(home: Path, run_dir: Path, least_delay: bool) -> str:
    """Java's class path for TorchServe.

    Args:
        home: the installed `ts` package.
        run_dir: of the server; the changed classes go into its folder `frontend`.
        least_delay: whether every model has a maxBatchDelay of 1; otherwise the delays of all stay in milliseconds.

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
        return jars  # another version, where these bytes may mean something else
    if not least_delay:
        del classes[LEAST_DELAY]
    for change, content in classes.items():
        file = run_dir / "frontend" / change.entry
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.replace(change.old, change.new))
    own = run_dir / "frontend" / PACKAGE
    own.mkdir(parents=True, exist_ok=True)
    for file in _OWN_CLASSES.glob("*.class"):
        shutil.copyfile(file, own / file.name)
    return f"{run_dir / 'frontend'}{os.pathsep}{jars}"


def in_use(run_dir: Path) -> str:
    """Which classes of the frontend run, as the workers log it; call it after `class_path`."""
    folder = run_dir / "frontend"
    if not folder.is_dir():
        return "stock"
    return "fast" if (folder / LEAST_DELAY.entry).is_file() else "fast, batch delay in ms"


def is_own(run_dir: Path) -> bool:
    """Whether the frontend has our classes: a budget for bodies, a token for management; call it after `class_path`."""
    return (run_dir / "frontend" / PACKAGE).is_dir()
