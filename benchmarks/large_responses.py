"""Seconds to answer a batch of large responses, by our frontend and by TorchServe's: large_responses.py [--rounds N].

Each request has 262,144 rows of 4 numbers, and a response of 10 MiB. The two servers take turns; what is answered 503
because the batch is too large is counted.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import requests

from benchmarks.soak import server
from simplenet import SimpleNet, create_archive, save_for_inference
from simplenet.media_types import RAW
from simplenet.settings import FRONTEND

ROWS, INPUTS = 262_144, 4
BATCHES = (1, 2, 3, 11)  # requests; a stock frontend is given at most 32 MiB at a time
PROFILE = "batchSize: 64\nmaxBatchDelay: 300\nresponseTimeout: 120\nstartupTimeout: 120\n"
FRONTENDS = {"fast": "ours", "stock": "TorchServe's"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="of each; the median is printed")
    rounds = parser.parse_args().rounds
    seconds: dict[tuple[str, int], list[float]] = {}
    answered: dict[tuple[str, int], int] = {}
    with tempfile.TemporaryDirectory(prefix="large-responses-") as name:
        archive = packed(Path(name))
        for number in range(rounds):
            for frontend, words in FRONTENDS.items():
                with served(archive, Path(name), frontend) as running:
                    for batch in BATCHES:
                        took, good = ask(running.port, batch)
                        seconds.setdefault((frontend, batch), []).append(took)
                        answered[frontend, batch] = good
                print(f"round {number + 1} of {rounds}: {words} done", flush=True)
    for batch in BATCHES:
        shown = []
        for frontend, words in FRONTENDS.items():
            low, middle, high = (pick(seconds[frontend, batch]) for pick in (min, statistics.median, max))
            shown.append(f"{words} {middle:.2f} s ({low:.2f}-{high:.2f}), {answered[frontend, batch]} answered")
        ratio = statistics.median(seconds["stock", batch]) / statistics.median(seconds["fast", batch])
        print(f"{batch:2} x 10 MiB: {'; '.join(shown)}; ratio {ratio:.2f}")


def packed(folder: Path) -> Path:
    """An archive of a network of few inputs, which waits 0.3 s for a batch to fill."""
    (folder / "profile.yaml").write_text(PROFILE)
    save_for_inference(SimpleNet(INPUTS, hidden_size=8, num_classes=10), folder / "net.pt")
    return create_archive(folder / "net.pt", export_path=folder, profile=folder / "profile.yaml")


@contextmanager
def served(archive: Path, folder: Path, frontend: str) -> Iterator[server.Running]:
    """One worker behind the chosen frontend, warmed up by one request."""
    os.environ[FRONTEND.name] = frontend
    with server.served(archive, folder, 1) as running:
        ask(running.port, 1)
        yield running


def ask(port: int, batch: int) -> tuple[float, int]:
    """So many requests at once: seconds until the last is answered, and how many got their predictions."""
    bodies = [np.random.default_rng(seed).random((ROWS, INPUTS), np.float32).tobytes() for seed in range(batch)]

    def one(body: bytes) -> bool:
        url, headers = f"http://127.0.0.1:{port}/predictions/simplenet", {"Content-Type": RAW, "Accept": RAW}
        return requests.post(url, data=body, headers=headers, timeout=300).status_code == requests.codes.ok

    with ThreadPoolExecutor(batch) as pool:
        began = time.monotonic()
        good = sum(pool.map(one, bodies))
        return time.monotonic() - began, good


if __name__ == "__main__":
    main()
