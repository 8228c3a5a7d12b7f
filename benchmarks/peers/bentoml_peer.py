"""BentoML with adaptive batching, one worker.

Its batch size counts rows, not requests: 512 leaves room for the load of 64 rows per request at 8 connections.
It relearns the wait of a batch from its traffic every 5 s, so the driver first sends each load for that long.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import bentoml
import network
import numpy as np
from bentoml.validators import DType

Rows = Annotated[np.ndarray, DType("float32")]


@bentoml.service(workers=1, traffic={"timeout": 60, "max_concurrency": 1024})
class Peer:
    def __init__(self) -> None:
        self.model = network.load()

    @bentoml.api(batchable=True, max_batch_size=512, max_latency_ms=1000)
    def predict(self, instances: Rows) -> list[dict[str, Any]]:
        return network.predictions(network.probabilities(self.model, instances))


if __name__ == "__main__":
    os.environ.update(BENTOML_DO_NOT_TRACK="True", BENTOML_HOME=os.environ["BENCH_FOLDER"])
    command = [sys.executable, "-m", "bentoml", "serve", f"{Path(__file__).stem}:Peer", "--host", "127.0.0.1"]
    folder = str(Path(__file__).resolve().parent)
    os.execv(sys.executable, [*command, "--port", os.environ["BENCH_PORT"], "--working-dir", folder])
