"""Damaged requests as bytes on the wire: whole ones, and ones whose HTTP is wrong."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from body_mutations import SEED, SIZE, Body, damaged, mutated

from simplenet.media_types import FORM, JSON, RAW

PATH = "/predictions/simplenet"
GOOD_ROW = b"\0\0\0\x3f" * SIZE  # 0.5
BOUNDARY = "fuzz-boundary-51c2"


LENGTHS = (0, 1, 784, 3135, 3137, 16_777_216, 16_777_217, 2**31, 2**63, 2**70, -1, "x", "0x10", "1,2")
PATHS = ("//", "/" + "a" * 9_000, "http://[::1/", "*", "x", "/invocations", "/explanations/simplenet")
GETS = ("/ping", "/api-description", "/../../etc/passwd", "/models", "/v2/health/live")
STARTS = (
    *(f"{method} {PATH} HTTP/1.1" for method in ("GET", "PUT", "DELETE", "BREW")),
    *(f"POST {PATH}{rest}" for rest in ("", " HTTP/9.9", " HTTP/1.0", "/9.9 HTTP/1.1", "/../x HTTP/1.1")),
    *(f"POST /predictions{rest} HTTP/1.1" for rest in ("", "/", "/%00", "/%zz", "/a/b/c")),
    *(f"POST {PATH}?{query} HTTP/1.1" for query in ("a=b&" * 500, "data=%ff&x", "%")),
    *(f"POST {path} HTTP/1.1" for path in PATHS),
    *(f"GET {path} HTTP/1.1" for path in GETS),
    "POST /v1/models/simplenet:predict HTTP/1.1", "OPTIONS * HTTP/1.1", "PRI * HTTP/2.0", "\x16\x03\x01\x02\0\x01",
)  # fmt: skip
FLOODS: tuple[list[str], ...] = (
    [f"X-{number}: y" for number in range(5_000)], [f"X-{number}: y" for number in range(500)],
    ["X: " + "y" * 1_000_000], ["X: " + "y" * 8_000], ["no colon at all"], [": empty"], ["A\0B: \x01"],
    ["X: a\n b"], ["Expect: 100-continue"],
    ["Expect: 200-never"], ["Connection: Upgrade", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"],
    ["Transfer-Encoding: gzip"], ["Content-Type: " + "a/b;" * 1_000], [f"Content-Type: {FORM}"],
    [f"Content-Type: {FORM}; boundary="], [f"Content-Type: {FORM}; boundary=" + "b" * 5_000],
    ["Content-Type: \xff\xfe"], ["explain: True"], [f"Content-Type: {RAW}", f"Content-Type: {JSON}"],
    ["Accept: " + ",".join(["a/b;q=0.1"] * 700)], ["Content-Type: application/x-www-form-urlencoded"],
)  # fmt: skip


@dataclass(frozen=True)
class Sent:
    """What goes out on one connection, and how many answers have to come; None if the bytes are no whole request."""

    kind: str
    data: bytes
    answers: int | None = 1


def framed(number: int, seed: int = SEED) -> Sent:
    """Number `number` of a run with this seed, always the same: half of them whole requests."""
    chance = random.Random(f"framing-{seed}-{number}")
    body = mutated(number, seed)
    if chance.random() < 0.5:
        return Sent(body.kind, whole(body))
    kind = chance.choice(tuple(_KINDS))
    return _KINDS[kind](kind, body, chance)


def whole(body: Body) -> bytes:
    """A request whose framing is right."""
    content, content_type = body.body, body.content_type
    if body.parts:
        content, content_type = form(body), f"{FORM}; boundary={BOUNDARY}"
    accept = "".join(letter for letter in body.accept if letter.isprintable())[:4_000]  # else it is no header of HTTP
    lines = [f"{name}: {value}" for name, value in body.headers.items()]
    lines += [f"Content-Type: {content_type}"] if content_type else []
    lines += [f"Accept: {accept}"] if accept else []
    return head(*lines, f"Content-Length: {len(content)}") + content


def head(*lines: str, start: str = f"POST {PATH} HTTP/1.1") -> bytes:
    """The start of a request, its headers and the empty line."""
    return "\r\n".join([start, "Host: localhost", *lines, "", ""]).encode("latin-1", "replace")


def form(body: Body) -> bytes:
    """The parts as multipart/form-data."""
    parts = []
    for name, content_type, content in body.parts:
        lines = [f"--{BOUNDARY}", f'Content-Disposition: form-data; name="{name}"; filename="x"']
        lines += [f"Content-Type: {content_type}"] if content_type else []
        parts.append("\r\n".join([*lines, "", ""]).encode("utf-8", "replace") + content + b"\r\n")
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def _length(kind: str, body: Body, chance: random.Random) -> Sent:
    lines = [f"Content-Length: {chance.choice(LENGTHS)}" for _ in range(chance.choice((1, 1, 2)))]
    return Sent(kind, head(*lines, f"Content-Type: {RAW}") + GOOD_ROW, None)


def _chunked(kind: str, body: Body, chance: random.Random) -> Sent:
    parts = [GOOD_ROW[at : at + 500] for at in range(0, len(GOOD_ROW), 500)]
    data = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    lines = ["Transfer-Encoding: chunked", f"Content-Type: {RAW}"]
    if chance.random() < 0.3:
        return Sent("chunked", head(*lines) + data)
    lines += [f"Content-Length: {chance.choice((0, 5, len(data)))}"] if chance.random() < 0.3 else []
    sizes = (b"ffffffff", b"-1", b"", b"g", b"7fffffffffffffff", b"10;x=" + b"y" * 9_000, b"0")
    data = chance.choice(sizes) + data[chance.choice((3, 0, 9)) :] if chance.random() < 0.5 else damaged(data, chance)
    return Sent(kind, head(*lines) + data, None)


def _headers(kind: str, body: Body, chance: random.Random) -> Sent:
    lines = chance.choice(FLOODS)
    return Sent(kind, head(*lines, f"Content-Length: {len(GOOD_ROW)}") + GOOD_ROW, None)


def _start(kind: str, body: Body, chance: random.Random) -> Sent:
    lines = (f"Content-Type: {RAW}", f"Content-Length: {len(GOOD_ROW)}")
    return Sent(kind, head(*lines, start=chance.choice(STARTS)) + GOOD_ROW, None)


def _pipeline(kind: str, body: Body, chance: random.Random) -> Sent:
    good = head(f"Content-Type: {RAW}", f"Content-Length: {len(GOOD_ROW)}") + GOOD_ROW
    requests = [good if chance.random() < 0.7 else whole(body) for _ in range(chance.choice((2, 8, 30)))]
    return Sent(kind, b"".join(requests), len(requests))


def _bytes(kind: str, body: Body, chance: random.Random) -> Sent:
    return Sent(kind, damaged(whole(body), chance), None)


_KINDS: dict[str, Callable[[str, Body, random.Random], Sent]] = {
    "wrong length": _length,
    "wrong chunks": _chunked,
    "wrong headers": _headers,
    "wrong start": _start,
    "pipelined": _pipeline,
    "damaged bytes": _bytes,
}
