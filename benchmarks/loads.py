"""The requests: rows, the bodies that hold them in each peer's format, and how its responses are read."""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import orjson
from PIL import Image

RAW = "application/octet-stream"
JSON_TYPE = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Load:
    """Requests of one kind, each sent as soon as one of `connections` is free."""

    name: str
    kind: str  # json, raw, png or mixed
    rows: int
    connections: int


@dataclass(frozen=True)
class Body:
    """One request; `read` turns the response's headers and body into the probabilities to compare."""

    content: bytes
    headers: dict[str, str]
    read: Callable[[Mapping[str, str], bytes], "Predictions"]


@dataclass(frozen=True)
class Predictions:
    """Either every probability `(n, 10)`, or the best class of each row and its probability."""

    probabilities: np.ndarray | None = None
    indices: list[int] = field(default_factory=list)
    best: list[float] = field(default_factory=list)

    def error(self, expected: np.ndarray) -> float:
        """The largest difference from the expected probabilities; infinite if a class or the number of rows differs."""
        if self.probabilities is not None:
            same = self.probabilities.shape == expected.shape
            return float(np.abs(self.probabilities - expected).max()) if same else float("inf")
        if self.indices != expected.argmax(axis=1).tolist():
            return float("inf")
        return float(np.abs(np.array(self.best) - expected.max(axis=1)).max())


CONNECTIONS = (1, 8, 64, 256)
LOADS = (
    *(Load(f"json, 1 row, {c} conn", "json", 1, c) for c in CONNECTIONS),
    *(Load(f"raw, 1 row, {c} conn", "raw", 1, c) for c in CONNECTIONS),
    Load("json, 64 rows", "json", 64, 8),
    Load("raw, 64 rows", "raw", 64, 8),
    Load("raw, 1024 rows", "raw", 1024, 4),
    Load("raw, 4096 rows", "raw", 4096, 4),
    Load("png, 64 conn", "png", 1, 64),
    Load("mixed, 64 conn", "mixed", 1, 64),
)
BY_NAME = {load.name: load for load in LOADS}
MIXED = (("json", 1), ("raw", 1), ("png", 1), ("raw", 1))  # sent in turn on every connection

JSON_AT_64, RAW_AT_64 = "json, 1 row, 64 conn", "raw, 1 row, 64 conn"


def sample_rows(count: int) -> np.ndarray:
    """Dense rows, like normalised images: about 16 kB of JSON each, without runs of short zeros."""
    return np.random.default_rng(0).random((count, 784), dtype=np.float32)


def png() -> tuple[bytes, np.ndarray]:
    """A 28x28 image of the same kind, and its row."""
    pixels = (sample_rows(1)[0] * 255).astype(np.uint8).reshape(28, 28)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue(), pixels.reshape(1, 784).astype(np.float32) / 255


def plain_body(kind: str, count: int) -> Body:
    """This project's API: instances in, predictions out; raw float32 both ways; PNG in."""
    rows = sample_rows(count)
    if kind == "raw":
        return Body(rows.tobytes(), {"Content-Type": RAW, "Accept": RAW}, _read_raw)
    if kind == "png":
        return Body(png()[0], {"Content-Type": "image/png"}, _read_predictions)
    return Body(orjson.dumps({"instances": rows.tolist()}), JSON_TYPE, _read_predictions)


def protocol_v2_body(kind: str, count: int) -> Body:
    """The Open Inference Protocol v2: JSON, or float32 by its binary extension."""
    rows = sample_rows(count)
    tensor = {"name": "rows", "shape": [count, 784], "datatype": "FP32"}
    if kind == "json":
        outputs = [{"name": name} for name in ("label", "index", "probability")]
        body = {"inputs": [{**tensor, "data": rows.ravel().tolist()}], "outputs": outputs}
        return Body(orjson.dumps(body), JSON_TYPE, _read_v2)
    content = rows.tobytes()
    head = orjson.dumps(
        {
            "inputs": [{**tensor, "parameters": {"binary_data_size": len(content)}}],
            "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}],
        }
    )
    headers = {"Content-Type": RAW, "Inference-Header-Content-Length": str(len(head))}
    return Body(head + content, headers, _read_v2_binary)


def expected_rows(kind: str, count: int) -> np.ndarray:
    return png()[1] if kind == "png" else sample_rows(count)


def _read_raw(_: Mapping[str, str], body: bytes) -> Predictions:
    return Predictions(np.frombuffer(body, "<f4").reshape(-1, 10))


def _read_predictions(_: Mapping[str, str], body: bytes) -> Predictions:
    """`{"predictions": [...]}`, or only the list if a framework returns its function's result unchanged."""
    value = json.loads(body)
    predictions = value["predictions"] if isinstance(value, dict) else value
    if any(prediction["label"] != str(prediction["index"]) for prediction in predictions):
        raise ValueError("a label differs from its index")
    return Predictions(None, [p["index"] for p in predictions], [p["probability"] for p in predictions])


def _read_v2(_: Mapping[str, str], body: bytes) -> Predictions:
    outputs = {output["name"]: output["data"] for output in json.loads(body)["outputs"]}
    if [int(label) for label in outputs["label"]] != outputs["index"]:
        raise ValueError("a label differs from its index")
    return Predictions(None, outputs["index"], outputs["probability"])


def _read_v2_binary(headers: Mapping[str, str], body: bytes) -> Predictions:
    return _read_raw(headers, body[int(headers["inference-header-content-length"]) :])
