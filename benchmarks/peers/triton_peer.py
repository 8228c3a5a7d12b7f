"""Triton through PyTriton: dynamic batching, one instance.

Triton's documentation starts from its default: a batch of all waiting requests, and no delay to form one.
"""

import os
import signal
import threading
from pathlib import Path

import network
import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

OUTPUTS = {"label": bytes, "index": np.int64, "probability": np.float32, "probabilities": np.float32}


def main() -> None:
    model = network.load()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())

    @batch
    def predict(rows):
        values = network.probabilities(model, rows)
        best = values.argmax(axis=1)
        return {
            "label": np.array(network.LABELS, dtype=bytes)[best][:, None],
            "index": best[:, None],
            "probability": values.max(axis=1, keepdims=True),
            "probabilities": values,
        }

    port = int(os.environ["BENCH_PORT"])
    config = TritonConfig(
        http_address="127.0.0.1", http_port=port, grpc_address="127.0.0.1", grpc_port=port + 1,
        metrics_port=port + 2, log_verbose=0,
    )  # fmt: skip
    with Triton(config=config, workspace=Path(os.environ["BENCH_FOLDER"]) / "w") as triton:
        triton.bind(
            model_name="simplenet",
            infer_func=predict,
            inputs=[Tensor(name="rows", dtype=np.float32, shape=(784,))],
            outputs=[
                Tensor(name=name, dtype=kind, shape=(10 if name == "probabilities" else 1,))
                for name, kind in OUTPUTS.items()
            ],
            config=ModelConfig(max_batch_size=4096, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
        )
        triton.run()
        ended.wait()


if __name__ == "__main__":
    main()
