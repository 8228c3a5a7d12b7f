"""MLServer with adaptive batching and its default of one inference worker.

Its documentation leaves max_batch_time to the user; a batch waits 1 ms for more requests, as in every peer that
batches.
"""

import json
import os
import sys
from pathlib import Path

import network
import numpy as np
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

SETTINGS = {
    "host": "127.0.0.1",
    "http_port": int(os.environ["BENCH_PORT"]),
    "grpc_port": int(os.environ["BENCH_PORT"]) + 1,
    "metrics_port": int(os.environ["BENCH_PORT"]) + 2,
    "debug": False,
    "parallel_workers": 1,
}
MODEL = {
    "name": "simplenet",
    "implementation": f"{Path(__file__).stem}.Model",
    "max_batch_size": 64,
    "max_batch_time": 0.001,
}


class Model(MLModel):
    async def load(self) -> bool:
        self.network = network.load()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        tensor = payload.inputs[0]
        rows = np.asarray(tensor.data.root, dtype=np.float32).reshape(tensor.shape)
        predictions = network.predictions(network.probabilities(self.network, rows))
        kinds = {"label": "BYTES", "index": "INT64", "probability": "FP32"}
        return InferenceResponse(
            model_name=self.name,
            outputs=[
                ResponseOutput(
                    name=name, shape=[len(predictions), 1], datatype=kind, data=[row[name] for row in predictions]
                )
                for name, kind in kinds.items()
            ],
        )


def serve() -> None:
    folder = Path(os.environ["BENCH_FOLDER"])
    (folder / "settings.json").write_text(json.dumps(SETTINGS))
    (folder / "model-settings.json").write_text(json.dumps(MODEL))
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent)
    mlserver = str(Path(sys.executable).parent / "mlserver")
    os.execv(mlserver, [mlserver, "start", str(folder)])


if __name__ == "__main__":
    serve()
