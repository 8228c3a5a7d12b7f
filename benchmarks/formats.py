"""Microseconds to decode one request in each format, by the fast and by the careful reader: formats.py [--repeats N].

In one process, one thread, without a server: what the fast readers of JSON and PNG save a worker.
"""

import argparse
import statistics
import timeit
from collections.abc import Callable

import orjson

from benchmarks import loads
from simplenet.media_types import JSON, PNG, RAW
from simplenet.worker.formats import fast_json, fast_png, image, json_body
from simplenet.worker.formats.table import decode_body
from simplenet.worker.model_spec import ModelSpec

SPEC = ModelSpec(784, tuple("0123456789"))
CALLS = 200  # a measurement is the mean of so many


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15, help="measurements of each; the median is printed")
    repeats = parser.parse_args().repeats
    json_row, png = loads.plain_body("json", 1).content, loads.png()[0]
    raw = loads.plain_body("raw", 1).content
    measured: dict[str, Callable[[], object]] = {
        f"JSON, {fast_json.ACTIVE}": lambda: decode_body(memoryview(json_row), JSON, SPEC),
        "JSON, orjson and a check of each number": lambda: json_body.decode_parsed(orjson.loads(json_row), SPEC),
        f"PNG, {fast_png.ACTIVE}": lambda: decode_body(memoryview(png), PNG, SPEC),
        "PNG, pillow": lambda: image.careful_row(memoryview(png), 28),
        "raw float32": lambda: decode_body(memoryview(raw), RAW, SPEC),
    }
    for name, decode in measured.items():
        times = timeit.repeat(decode, number=CALLS, repeat=repeats)
        low, middle, high = (1e6 * pick(times) / CALLS for pick in (min, statistics.median, max))
        print(f"{name:42} {middle:7.1f} µs ({low:.1f} to {high:.1f})")


if __name__ == "__main__":
    main()
