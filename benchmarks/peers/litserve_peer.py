"""LitServe, batches of up to 64, its fast queue, one worker on the CPU.

Its documentation asks for max_batch_size, a batch_timeout that suits the latency wanted, and fast_queue for high
throughput. A batch waits 1 ms for more requests, as in every peer that batches.
"""

import os

import litserve
import network
import numpy as np


class Api(litserve.LitAPI):
    def setup(self, device):
        self.model = network.load()

    def decode_request(self, request):
        return network.json_rows(request["instances"])

    def batch(self, inputs):
        return inputs

    def predict(self, inputs):
        values = network.probabilities(self.model, np.concatenate(inputs))
        return np.split(values, np.cumsum([len(rows) for rows in inputs])[:-1])

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return {"predictions": network.predictions(output)}


if __name__ == "__main__":
    api = Api(max_batch_size=64, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", fast_queue=True)
    port = int(os.environ["BENCH_PORT"])
    server.run(host="127.0.0.1", port=port, num_api_servers=1, log_level="warning", generate_client_file=False)
