"""Ray Serve with @serve.batch, one replica.

Its documentation asks for max_ongoing_requests above the batch size, so that batches can fill, and for
RAY_SERVE_THROUGHPUT_OPTIMIZED for high throughput. A batch waits 1 ms for more requests, as in every peer that batches.
"""

import os
import signal
import threading

import network
import numpy as np
import orjson
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

RAW = "application/octet-stream"


@serve.deployment(num_replicas=1, max_ongoing_requests=512)
class Peer:
    def __init__(self) -> None:
        self.model = network.load()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.001)
    async def predict(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        values = network.probabilities(self.model, np.concatenate(inputs))
        return np.split(values, np.cumsum([len(rows) for rows in inputs])[:-1])

    async def __call__(self, request: Request) -> Response:
        body, kind = await request.body(), request.headers["content-type"]
        if kind == RAW:
            return Response((await self.predict(network.raw_rows(body))).tobytes(), media_type=RAW)
        rows = network.png_row(body) if kind == "image/png" else network.json_rows(orjson.loads(body)["instances"])
        content = {"predictions": network.predictions(await self.predict(rows))}
        return Response(orjson.dumps(content), media_type="application/json")


def main() -> None:
    """Run until SIGTERM; replica and proxy inherit the environment."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    folder = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    environment = {"env_vars": {"PYTHONPATH": folder, "BENCH_WEIGHTS": os.environ["BENCH_WEIGHTS"]}}
    ray.init(
        include_dashboard=False, log_to_driver=False, runtime_env=environment, _temp_dir=os.environ["BENCH_FOLDER"],
        object_store_memory=200 * 2**20,
    )  # fmt: skip
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])})
    serve.run(Peer.bind(), route_prefix="/predict")
    ended.wait()
    ray.shutdown()


if __name__ == "__main__":
    main()
