"""Damaged requests, thousands of them, through decode, predict and encode in one subprocess; `scripts/fuzz --bodies`.

Each goes in a batch with a good neighbour, to each of three networks in turn. It may be answered or refused with a 4xx
in one line; an exception, a 5xx, a hang, too much memory or another answer for the neighbour is a failure.
"""

import argparse
import json
import os
import pickle
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
from body_mutations import SEED, SIZE, Body, mutated
from mutations import REPORT_EVERY, TIME_S, baseline_bytes, peak_bytes, show_run, sound_alarm

from simplenet.media_types import JSON, NPY, RAW
from simplenet.worker.messages import RawRequest, Response
from simplenet.worker.predictor import Predictor

COUNT = 100_000
MEMORY = 2 << 30  # bytes above what the process takes before the first request
LONGEST = 500  # characters of a message
SLOW_S = 10.0  # for one request; the largest picture that is accepted takes a second
Respond = Callable[[list[RawRequest]], list[Response]]


def predictors() -> list[Predictor]:
    """Networks of grey pictures, of colour pictures, and of rows that are no pictures."""
    import torch

    from simplenet.model import SimpleNet
    from simplenet.preprocessing import InputSpec
    from simplenet.worker.model_spec import ModelSpec

    torch.manual_seed(0)
    torch.set_num_threads(1)
    found = []
    for shape in (None, (1, 28, 28), (SIZE // 2, 2)):
        spec = ModelSpec(SIZE, tuple("0123456789"), shape)
        network = SimpleNet(SIZE, 8, 10).eval()
        model = network if shape is None else torch.nn.Sequential(torch.nn.Flatten(), network).eval()
        found.append(Predictor(model, spec, torch.device("cpu"), inputs=InputSpec(shape)))
    return found


def responder(predictor: Predictor) -> Respond:
    """Decode, predict and encode, as the handler does."""
    from simplenet.worker.decode import decode_or_refuse
    from simplenet.worker.encode import encode_all
    from simplenet.worker.messages import DecodedRequest

    def respond(requests: list[RawRequest]) -> list[Response]:
        decoded = [decode_or_refuse(request, predictor.spec) for request in requests]
        rows = [request.rows for request in decoded if isinstance(request, DecodedRequest)]
        return encode_all(decoded, predictor.predict(rows), predictor.spec)

    return respond


def raw_request(body: Body) -> RawRequest:
    """The request as the wire gives it."""
    headers: dict[str, object] = {name: {"content-type": kind} for name, kind, _ in body.parts}
    headers |= {"Content-Type": body.content_type, "Accept": body.accept, **body.headers}
    fields = {name: memoryview(content) for name, _, content in body.parts}
    return RawRequest(b"", headers, fields if body.parts else {"body": memoryview(body.body)})


def attempt(respond: Respond, body: Body, neighbour: RawRequest, expected: bytes) -> tuple[str, str | None]:
    """What became of one request, and what is wrong with that, if anything."""
    signal.alarm(TIME_S)
    began = time.monotonic()
    try:
        response, other = respond([raw_request(body), neighbour])
    except BaseException:  # a batch that fails as a whole
        return "a traceback", traceback.format_exc()
    finally:
        signal.alarm(0)
    outcome = f"{body.kind.removeprefix('form of ')}: {response.status}"
    if other.body != expected:
        return outcome, f"the neighbour was harmed: {other.status} {other.body[:200]!r}"
    if time.monotonic() - began > SLOW_S:
        return outcome, f"took {time.monotonic() - began:.0f} s"
    return outcome, wrong_in(response)


def wrong_in(response: Response) -> str | None:
    """What is wrong with a response, if anything."""
    if response.status >= 500:
        return f"status {response.status}: {response.body[:300]!r}"
    try:
        if response.status != 200:
            message = orjson.loads(response.body)["message"]
            return f"a long message or one of lines: {message[:300]!r}" if _is_bad(message) else None
        if response.content_type == JSON:
            return None if orjson.loads(response.body)["predictions"] else "no predictions"
        size = len(response.body) if response.content_type == RAW else len(response.body) - 128  # the header of .npy
        whole = size > 0 and size % 40 == 0 and response.content_type in (RAW, NPY)
        return None if whole else f"an array of {len(response.body)} bytes"
    except (ValueError, LookupError, TypeError) as error:
        return f"a response that cannot be read: {error!r}: {response.body[:300]!r}"


def _is_bad(message: str) -> bool:
    return "\n" in message or len(message) > LONGEST


def keep(body: Body, number: int, folder: Path) -> Path:
    """Write a request that failed to a file, for `kept`."""
    file = folder / f"simplenet-fuzz-body-{number}"
    file.write_bytes(pickle.dumps(body))
    return file


def kept(file: Path) -> Body:
    """The request in a file that `keep` wrote."""
    body: Body = pickle.loads(file.read_bytes())
    return body


def work(start: int, count: int, seed: int) -> None:
    """In the subprocess: answer the requests and report on stdout, one line of JSON for each hundred."""
    responders = [responder(predictor) for predictor in predictors()]
    rows = np.full((1, SIZE), 0.5, "<f4").tobytes()
    neighbour = RawRequest(b"", {"Content-Type": RAW, "Accept": JSON}, {"body": memoryview(rows)})
    expected = [respond([raw_request(mutated(0)), neighbour])[1].body for respond in responders]
    resource.setrlimit(resource.RLIMIT_AS, (baseline_bytes() + MEMORY, resource.RLIM_INFINITY))
    sound_alarm()
    outcomes: Counter[str] = Counter()
    for number in range(start, start + count):
        body = mutated(number, seed)
        which = number % len(responders)
        outcome, failure = attempt(responders[which], body, neighbour, expected[which])
        outcomes[outcome] += 1
        if failure is not None:
            file = keep(body, number, Path(tempfile.gettempdir()))
            failure = f"{file}: {body.kind}, {body.content_type!r}, {body.accept!r}: {failure}"
        if failure is not None or (number - start) % REPORT_EVERY == REPORT_EVERY - 1 or number == start + count - 1:
            line = {"number": number, "outcomes": outcomes, "peak": peak_bytes(), "failure": failure}
            print(json.dumps(line), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/fuzz --bodies", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=COUNT, help="how many requests")
    parser.add_argument("--start", type=int, default=0, help="the number of the first")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--live", type=int, default=0, help="how many more to send to a real server")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.start, options.count, options.seed)
        return 0
    command = [sys.executable, "-W", "ignore", __file__, "--work", "--count", str(options.count)]
    command += ["--start", str(options.start), "--seed", str(options.seed)]
    code = show_run("fuzz bodies", command, options.count, options.start) if options.count else 0
    if options.live:
        from body_fuzz_live import show_live

        code |= show_live(options.live, options.start, options.seed)
    return code


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.exit(main())
