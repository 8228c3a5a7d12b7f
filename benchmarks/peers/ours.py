"""SimpleNet Serve itself, exactly as a user starts it: archive the checkpoint, then serve the archive."""

import os
import sys
from pathlib import Path

SIMPLENET = str(Path(sys.executable).parent / "simplenet")
STORE = Path(os.environ["BENCH_FOLDER"]) / "store"


def prepare() -> None:
    profile = os.environ.get("BENCH_PROFILE", "throughput")
    checkpoint = os.environ["BENCH_CHECKPOINT"]
    STORE.mkdir()
    os.execv(SIMPLENET, [SIMPLENET, "archive", checkpoint, "--export-path", str(STORE), "--profile", profile])


def serve() -> None:
    os.execv(SIMPLENET, [SIMPLENET, "serve", "--model-store", str(STORE), "--port", os.environ["BENCH_PORT"]])


if __name__ == "__main__":
    {"prepare": prepare, "serve": serve}[sys.argv[1]]()
