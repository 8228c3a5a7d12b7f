"""Requests that were changed at random where it hurts: inside a JSON value, a PNG chunk, a .npy header, a form."""

import ast
import io
import json
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from bad_requests import bad_requests
from PIL import Image

from simplenet.media_types import FORM, JPEG, JSON, NPY, PNG, RAW, TEXT, URL_ENCODED_FORM

SEED = 20261125
SIDE = 28
SIZE = SIDE * SIDE
TYPES = (JSON, PNG, JPEG, RAW, NPY, FORM, URL_ENCODED_FORM, TEXT, "", "*/*", "image/gif", "application/json; charset=x")
ACCEPTS = (
    "", "*/*", JSON, NPY, RAW, "text/html", f"{NPY};q=0.5, {RAW}", f"{JSON};q=0", "application/*;q=1.0", "*/*;q=0",
    f'{JSON};a="b,c";q=0.1, */*', ",,;;==", ";q=", f"{NPY};q=2", f"{RAW};q=.5", "a" * 500,
)  # fmt: skip
CHUNKS = tuple(b"tRNS PLTE eXIf tEXt zTXt iTXt iCCP acTL fcTL fdAT gAMA pHYs cHRM sBIT IDAT IEND".split())
PIXELS = tuple(zlib.compress(bytes(size)) for size in (0, 1, 29 * SIDE, 29 * SIDE - 1, 10_000_000))
_TURNED = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0"  # Exif with an orientation, which follows
CONTENTS = (
    b"", b"\0", bytes(6), bytes(768), b"a\0bcdefgh", bytes(25) + b"\x01", b"II*\0\xff\xff\xff\xff",
    _TURNED + b"\x06\0\0\0", b"a\0\0" + PIXELS[1], b"a\0\0" + PIXELS[4],
    b"a\0\1\0\0\0" + zlib.compress(b"x" * 2_000_000),
)  # fmt: skip
DTYPES = ("<f4", ">f4", "<f8", "<f2", "u1", "<i4", "?", "<c8", "S3", "<U2", "M8[s]", "f4,u1")
NUMBERS = (b"3", b"0", b"-1", b"9" * 20, b"", b"1\n", "\u0663".encode(), b"\xff", b"1e1", b" 2", b"[1]")  # of a form
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**30, 10**400, -(10**400), 0.5, -0.0, 1e-45, 3.5e38, 1e308, "",
    "x", "\x00", "é" * 50, "1e5", [], {}, [[]], [{}], {"": 0}, [0] * SIZE, [[0] * SIDE] * SIDE, [0.1] * (SIZE - 1),
    {"instances": []}, [None], [True] * SIZE,
)  # fmt: skip
TOKENS = (
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e999",
    b"-1e999",
    b"01",
    b"1.",
    b".5",
    b"1e",
    b"0x1",
    b"'a'",
    b"\\ud800",
    b"\xff",
)
TEXTS = (
    b"\x00",
    b"\xff\xfe",
    b"[" * 3_000,
    b'{"a":' * 3_000,
    b"\r\n",
    b"]",
    b"}",
    b'"',
    b",",
    b" " * 100,
    b"\xef\xbb\xbf",
)


@dataclass(frozen=True)
class Body:
    """One request as a client means it: the body, or the parts of a form with their names and types."""

    kind: str
    body: bytes = b""
    content_type: str = ""
    accept: str = ""
    parts: tuple[tuple[str, str, bytes], ...] = ()  # name, content type, content
    headers: dict[str, str] = field(default_factory=dict)


def mutated(number: int, seed: int = SEED) -> Body:
    """Request `number` of a run with this seed, always the same."""
    chance = random.Random(f"{seed}-{number}")
    kind = chance.choice(tuple(_KINDS))
    media_type, make = _KINDS[kind]
    data = make(chance)
    if chance.random() < 0.35:
        data = damaged(data, chance)
    accept = chance.choice(ACCEPTS) if chance.random() < 0.5 else JSON
    if chance.random() < 0.1:
        accept = damaged(accept.encode() or b"*", chance).decode("latin-1").replace("\r", "").replace("\n", "")
    if chance.random() < 0.2:
        return Body(f"form of {kind}", accept=accept, content_type=FORM, parts=_parts(data, media_type, chance))
    content_type = chance.choice(TYPES) if chance.random() < 0.15 else media_type
    headers = {"Content-Encoding": chance.choice(("gzip", "identity", "", "br"))} if chance.random() < 0.02 else {}
    return Body(kind, data, content_type, accept, headers=headers)


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Bytes flipped, cut, repeated, put in or taken out."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice((1, 1, 2, 4, 16, 200)))
        match chance.randrange(6):
            case 0:
                data = data[:at]
            case 1:
                data = data[:at] + bytes(byte ^ (1 << chance.randrange(8)) for byte in data[at:end]) + data[end:]
            case 2:
                data = data[:at] + chance.randbytes(end - at) + data[at:]
            case 3:
                data = data[:at] + data[end:]
            case 4:
                data = data[:at] + chance.choice((*TOKENS, *TEXTS)) + data[chance.choice((at, end)) :]
            case 5:
                data = data[:end] + data[at:end] * chance.choice((1, 3, 40)) + data[end:]
    return data


def _numbers(chance: random.Random, count: int) -> list[float]:
    return [chance.choice((0, 1, 0.5, -1.25, 1e-3, 255, 1e30)) for _ in range(count)]


def _json(chance: random.Random) -> bytes:
    rows: list[Any] = [_numbers(chance, SIZE) for _ in range(chance.choice((1, 1, 2, 5)))]
    if chance.random() < 0.4:
        rows = [[row[at : at + SIDE] for at in range(0, SIZE, SIDE)] for row in rows]
    value: Any = {"instances": rows}
    if chance.random() < 0.5:
        value["parameters"] = {"top_k": chance.choice((1, 3, 10, 0, 11, 2.0, "3", None, 10**30, [1]))}
    for _ in range(chance.choice((0, 0, 1, 2, 4))):
        value = _changed(value, chance)
    text = json.dumps(value, ensure_ascii=chance.random() < 0.5, indent=chance.choice((None, None, 1)))
    data = text.encode("utf-8", "surrogatepass")
    if chance.random() < 0.2:
        data = data.replace(b"0.5", chance.choice(TOKENS), chance.choice((1, 3)))
    if chance.random() < 0.05:
        data = chance.choice((b'{"instances":[],', b'{"parameters":{},')) + data[1:]  # the same name twice
    return data


def _changed(value: Any, chance: random.Random) -> Any:
    """The same value with one node, at any depth, replaced, doubled, wrapped, renamed or removed."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        name = chance.choice(list(value))
        if chance.random() < 0.1:
            return {
                (chance.choice(("", "Instances", "top_k", "\ud800")) if key == name else key): one
                for key, one in value.items()
            }
        return {**value, name: _changed(value[name], chance)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        at = chance.randrange(len(value))
        kept = [_changed(value[at], chance)] if chance.random() < 0.9 else chance.choice(([], [value[at]] * 2))
        return value[:at] + kept + value[at + 1 :]
    return chance.choice((*VALUES, [value], {"instances": value}, str(value)[:50]))


def _raw(chance: random.Random) -> bytes:
    rows = np.array(_numbers(chance, SIZE * chance.choice((1, 1, 3))), "<f4")
    for _ in range(chance.choice((0, 1, 3))):
        rows[chance.randrange(len(rows))] = chance.choice((np.nan, np.inf, -np.inf, 3.4e38, 1e-45, -0.0))
    return rows.tobytes()[: chance.choice((None, None, -1, -4, 1))]


def _npy(chance: random.Random) -> bytes:
    shape = chance.choice(((1, SIZE), (3, SIZE), (2, SIDE, SIDE), (0, SIZE), (SIZE,), (1, 1, SIDE, SIDE), ()))
    array = np.ones(shape, chance.choice(DTYPES))
    buffer = io.BytesIO()
    np.save(buffer, np.asfortranarray(array) if chance.random() < 0.2 else array, allow_pickle=False)
    data = buffer.getvalue()
    if chance.random() < 0.5:
        return data
    length = struct.unpack("<H", data[8:10])[0]
    header = ast.literal_eval(data[10 : 10 + length].decode())
    name = chance.choice(("shape", "descr", "fortran_order"))
    header[name] = chance.choice((
        (1, SIZE), (-1, SIZE), (2**62, SIZE), (2**70, SIZE), (1.0, SIZE), (True, SIZE), (1, SIZE, 0), "<f4", "O", "|V0",
        "<f16", "<f4\0", [("a", "<f4")], None, 0, (0,) * 70, ("<f4", (SIZE,)), {"a": 1},
        "<f4,<f4", (1, -SIZE), ((1,), SIZE),
    ))  # fmt: skip
    text = repr(header).encode() + chance.choice((b"\n", b"", b" " * 500, b"\0"))
    version = chance.choice((b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\xff\xff"))
    size = struct.pack("<H" if version == b"\x01\x00" else "<I", len(text) + chance.choice((0, 0, 0, -1, 7, 5_000)))
    return data[:6] + version + size + text + data[10 + length :]


def _png(chance: random.Random) -> bytes:
    modes = ("L", "L", "RGB", "RGBA", "LA", "P", "1", "I;16")
    mode, side = chance.choice(modes), chance.choice((SIDE, SIDE, 1, 7, 300))
    picture = Image.new(mode, (side, chance.choice((side, side, 1, 40))))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    data, chunks, at = buffer.getvalue(), [], 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        _change_chunk(chunks, chance)
    return data[:8] + b"".join(_chunk(kind, content, chance) for kind, content in chunks)


def _change_chunk(chunks: list[tuple[bytes, bytes]], chance: random.Random) -> None:
    at = chance.randrange(len(chunks)) if chunks else 0
    match chance.randrange(6):
        case 0 if chunks:
            chunks[at] = (chunks[at][0], damaged(chunks[at][1], chance))
        case 1 if chunks:
            sides = (0, 1, SIDE, 5_000, 2**31 - 1, 2**32 - 1)
            depths, colours = (1, 2, 4, 8, 16, 3), (0, 2, 3, 4, 6, 1)
            header = (chance.choice(sides), chance.choice(sides), chance.choice(depths), chance.choice(colours))
            chunks[0] = (b"IHDR", struct.pack(">IIBBBBB", *header, 0, 0, chance.choice((0, 1))))
        case 2:
            chunks.insert(at, (chance.choice(CHUNKS), chance.choice((*CONTENTS, chance.randbytes(26)))))
        case 3 if chunks:
            del chunks[at]
        case 4 if chunks:
            chunks.insert(at, chance.choice(chunks))
        case 5:
            pixels = chance.choice(PIXELS)
            chunks[:] = [(kind, pixels if kind == b"IDAT" else content) for kind, content in chunks]


def _chunk(kind: bytes, content: bytes, chance: random.Random) -> bytes:
    wrong = chance.random() < 0.03
    length = chance.choice((0, 2**31, 2**32 - 1)) if chance.random() < 0.01 else len(content)
    return struct.pack(">I", length) + kind + content + struct.pack(">I", zlib.crc32(kind + content) ^ wrong)


def _jpeg(chance: random.Random) -> bytes:
    picture = Image.new(chance.choice(("L", "RGB", "CMYK")), (chance.choice((SIDE, 1, 200)), SIDE))
    buffer = io.BytesIO()
    options: dict[str, Any] = {"progressive": chance.random() < 0.3}
    if chance.random() < 0.3:
        options["exif"] = b"Exif\0\0" + _TURNED + bytes([chance.randrange(256)]) + bytes(7)
    picture.save(buffer, "JPEG", **options)
    data = buffer.getvalue()
    marks = [at for at in range(len(data) - 4) if data[at] == 0xFF and data[at + 1] not in (0, 0xFF)]
    for _ in range(chance.choice((0, 1, 2))):
        at = chance.choice(marks) + chance.choice((1, 2, 3, 4, 5, 7))
        data = data[:at] + bytes([chance.choice((0, 1, 0x7F, 0xFF, chance.randrange(256)))]) + data[at + 1 :]
    return data


def _wrong(chance: random.Random) -> bytes:
    bodies = [bad.body for bad in bad_requests() if len(bad.body) < 100_000]
    return chance.choice(bodies)


def _parts(data: bytes, media_type: str, chance: random.Random) -> tuple[tuple[str, str, bytes], ...]:
    part_type = chance.choice((media_type, media_type, RAW, TEXT, "", "a/b", "image/png; x=y"))
    parts = [("data", part_type, data)]
    if chance.random() < 0.5:
        parts.append(("top_k", chance.choice((TEXT, "", JSON)), chance.choice(NUMBERS)))
    if chance.random() < 0.1:
        parts.append((chance.choice(("", "x", "data", "top_k", "content-type", "é\0")), "", b"x"))
    if chance.random() < 0.05:
        parts = parts[1:]
    return tuple(parts)


_KINDS: dict[str, tuple[str, Callable[[random.Random], bytes]]] = {
    "json": (JSON, _json),
    "raw": (RAW, _raw),
    "npy": (NPY, _npy),
    "png": (PNG, _png),
    "jpeg": (JPEG, _jpeg),
    "wrong": (JSON, _wrong),
}
