"""The network without a server: rows per second of softmax(network(rows)), one JSON line per batch size.

Arguments: threads, seconds, sizes of batches.
"""

import json
import sys
import time

import network
import numpy as np
import torch


def main() -> None:
    threads, seconds = int(sys.argv[1]), float(sys.argv[2])
    model = network.load()
    torch.set_num_threads(threads)
    for count in map(int, sys.argv[3:]):
        rows = np.random.default_rng(0).random((count, 784), dtype=np.float32)
        for _ in range(10):
            network.probabilities(model, rows)
        calls, start = 0, time.perf_counter()
        while (now := time.perf_counter()) - start < seconds:
            network.probabilities(model, rows)
            calls += 1
        print(json.dumps({"rows": count, "threads": threads, "rows_per_s": calls * count / (now - start)}))


if __name__ == "__main__":
    main()
