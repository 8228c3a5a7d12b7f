"""mosec: a Rust front that batches, and one Python worker behind it; JSON by orjson.

A batch waits 1 ms, the shortest wait that mosec accepts. A lone request takes 2.6 ms with it, 3.7 ms with a wait of 2,
6.8 ms with 5 and 12 ms with the default of 10. The throughput with 64 connections is the same for all four.

A mosec worker does not see the request's content type, so each kind has its own route and worker, as mosec's
documentation shows. Only one of them works at a time; mixed traffic would use all three, so it is not measured.
"""

import os
from pathlib import Path

import numpy as np
import orjson
from mosec import Server, Worker


class Json(Worker):
    def __init__(self):
        import network  # here, not above: the process that only watches the workers needs no torch

        self.network = network
        self.model = network.load()

    def deserialize(self, data):
        return self.network.json_rows(orjson.loads(data)["instances"])

    def forward(self, data):
        values = self.network.probabilities(self.model, np.concatenate(data))
        return np.split(values, np.cumsum([len(rows) for rows in data])[:-1])

    def serialize(self, data):
        return orjson.dumps({"predictions": self.network.predictions(data)})


class Raw(Json):
    resp_mime_type = "application/octet-stream"

    def deserialize(self, data):
        return self.network.raw_rows(data)

    def serialize(self, data):
        return data.tobytes()


class Png(Json):
    def deserialize(self, data):
        return self.network.png_row(data)


if __name__ == "__main__":
    os.environ.update(
        MOSEC_ADDRESS="127.0.0.1",
        MOSEC_PORT=os.environ["BENCH_PORT"],
        MOSEC_PATH=str(Path(os.environ["BENCH_FOLDER"]) / "mosec"),  # its sockets
        MOSEC_MAX_REQUEST_SIZE=str(32 * 2**20),
        MOSEC_LOG_LEVEL="error",
    )
    server = Server()
    for worker in (Json, Raw, Png):
        route = f"/{worker.__name__.lower()}"
        server.append_worker(worker, max_batch_size=64, max_wait_time=1, route=route)
    server.run()
