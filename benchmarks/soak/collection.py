"""The requests of the soak, each with the answer that it must get."""

import io
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import orjson
from bad_requests import BadRequest, bad_requests
from PIL import Image

from benchmarks.soak.network import INPUTS, POISON, SLOW, Networks
from simplenet.media_types import FORM, JPEG, JSON, NPY, PNG, RAW

TOLERANCE = 1e-5  # between a probability and the network's own
BOUNDARY = "soak-boundary-7d1f"
ROWS = {1: 12, 64: 4, 1000: 1}  # how often each size is chosen
PATH = "/predictions/simplenet"
_PARTS = {"npy": NPY, "raw": RAW, "png": PNG}


@dataclass(frozen=True)
class Request:
    """One request, and by the name of the weights the probabilities `(rows, 10)` that it must get.

    A request that is wrong has `bad` instead: the status and the message that it must get.
    """

    name: str
    body: bytes
    headers: Mapping[str, str]
    rows: int = 0
    expected: Mapping[str, np.ndarray] = field(default_factory=dict)
    bad: BadRequest | None = None

    def weights_that_answer(self, content_type: str, body: bytes) -> set[str]:
        """The weights whose answer this is, every row of it; none if it is wrong."""
        try:
            found = _predictions(content_type, body)
        except (ValueError, LookupError, TypeError):
            return set()
        return {name for name, probabilities in self.expected.items() if _agrees(found, probabilities)}

    def is_refused_well(self, status: int, body: bytes) -> bool:
        """Whether a wrong request got its own status and message."""
        if self.bad is None or status != self.bad.status:
            return False
        try:
            message = str(orjson.loads(body)["message"])
        except (ValueError, LookupError, TypeError):
            return False
        return re.search(self.bad.message, message) is not None


class Collection:
    """Every request that is sent, made once: making bodies must not take the server's cores."""

    def __init__(self, networks: Networks, seed: int) -> None:
        numbers = np.random.default_rng(seed)
        self.networks = networks
        self.good: dict[int, list[Request]] = {size: [] for size in ROWS}
        for size, requests in self.good.items():
            for kind in ("json", "raw", "npy", "form-npy", "form-raw"):
                requests.append(self.request(kind, self.rows(numbers, size), len(requests)))
        for number, kind in enumerate(("png", "jpeg", "form-png", "png")):
            self.good[1].append(self.picture(kind, numbers, number))
        self.wrong = [
            Request(
                f"bad: {bad.name}", bad.body, {"Content-Type": bad.content_type} if bad.content_type else {}, bad=bad
            )
            for bad in bad_requests()
        ]
        self.poison = self.marked(POISON, numbers)
        self.slow = self.marked(SLOW, numbers)

    def chosen(self, chance: random.Random, share_wrong: float = 0.15) -> Request:
        """One request at random: good or wrong, small or large."""
        if chance.random() < share_wrong:
            return chance.choice(self.wrong)
        (size,) = chance.choices(list(ROWS), list(ROWS.values()))
        return chance.choice(self.good[size])

    def small(self) -> list[Request]:
        """The good requests of one row."""
        return self.good[1]

    def rows(self, numbers: np.random.Generator, size: int) -> np.ndarray:
        """So many rows, each with one class that is the most probable beyond doubt, whatever the weights."""
        found: list[np.ndarray] = []
        while len(found) < size:
            drawn = numbers.normal(0, 2, (size, INPUTS)).round(2).astype(np.float32)
            drawn[:, 0] = 0  # no mark
            answers = self.networks.probabilities(drawn)
            clear = np.logical_and.reduce([_is_clear(one) for one in answers.values()])
            found.extend(drawn[clear])
        return np.array(found[:size])

    def request(self, kind: str, rows: np.ndarray, number: int) -> Request:
        """The rows in one format; every third request wants its answer as an array."""
        media_type, body = _encoded(kind.removeprefix("form-"), rows)
        accept = (JSON, RAW, NPY)[number % 3]
        if kind.startswith("form-"):
            media_type, body = _form(kind.removeprefix("form-"), body)
        headers = {"Content-Type": media_type, "Accept": accept}
        return Request(f"{kind}, {len(rows)} rows", body, headers, len(rows), self.networks.probabilities(rows))

    def picture(self, kind: str, numbers: np.random.Generator, number: int) -> Request:
        """One picture of 28x28; a row of it is what the file says, for JPEG loses a little."""
        name = kind.removeprefix("form-")
        pixels = numbers.integers(0, 256, (28, 28), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, name.upper())
        body = buffer.getvalue()
        with Image.open(io.BytesIO(body)) as picture:
            rows = np.asarray(picture, np.float32).reshape(1, -1) / 255
        media_type = {"png": PNG, "jpeg": JPEG}[name]
        if kind != name:
            media_type, body = _form(name, body)
        headers = {"Content-Type": media_type, "Accept": (JSON, NPY)[number % 2]}
        return Request(kind, body, headers, 1, self.networks.probabilities(rows))

    def marked(self, mark: float, numbers: np.random.Generator) -> Request:
        """A row that the network answers slowly, or not at all."""
        rows = self.rows(numbers, 1)
        rows[0, 0] = mark
        name, headers = "slow" if mark == SLOW else "poison", {"Content-Type": RAW, "Accept": RAW}
        return Request(name, rows.tobytes(), headers, 1, self.networks.probabilities(rows))


def _is_clear(probabilities: np.ndarray) -> np.ndarray:
    best = np.sort(probabilities, axis=1)
    return best[:, -1] - best[:, -2] > 100 * TOLERANCE


def _encoded(kind: str, rows: np.ndarray) -> tuple[str, bytes]:
    if kind == "json":
        body = {"instances": [[round(float(value), 2) for value in row] for row in rows]}
        return JSON, orjson.dumps(body)
    if kind == "raw":
        return RAW, rows.astype("<f4").tobytes()
    buffer = io.BytesIO()
    np.save(buffer, rows)
    return NPY, buffer.getvalue()


def _form(kind: str, content: bytes) -> tuple[str, bytes]:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="data"; filename="data.{kind}"\r\n'
    head += f"Content-Type: {_PARTS[kind]}\r\n\r\n"
    return f"{FORM}; boundary={BOUNDARY}", head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def _predictions(content_type: str, body: bytes) -> tuple[np.ndarray, np.ndarray | None]:
    """All probabilities `(n, 10)`; from JSON the best one of each row, and which class has it."""
    if content_type.startswith(JSON):
        rows = orjson.loads(body)["predictions"]
        return np.array([row["probability"] for row in rows]), np.array([row["index"] for row in rows])
    if content_type.startswith(NPY):
        return np.load(io.BytesIO(body), allow_pickle=False), None
    return np.frombuffer(body, "<f4").reshape(-1, 10), None


def _agrees(found: tuple[np.ndarray, np.ndarray | None], expected: np.ndarray) -> bool:
    probabilities, indices = found
    if indices is None:
        return probabilities.shape == expected.shape and bool(np.abs(probabilities - expected).max() <= TOLERANCE)
    best = expected.argmax(axis=1)
    if len(indices) != len(best) or (indices != best).any():
        return False
    return bool(np.abs(probabilities - expected.max(axis=1)).max() <= TOLERANCE)
