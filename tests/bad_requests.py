"""Requests that are wrong, each in its own way, with the response that each must get."""

import functools
import io
import pickle
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import orjson

from simplenet.media_types import JSON, NPY, PNG, RAW, URL_ENCODED_FORM
from simplenet.paths import resource

ROW = [0.5] * 784


@dataclass(frozen=True)
class BadRequest:
    """One wrong request for a model of 784 inputs and 10 classes.

    `message` is a regular expression. `parsed_message` is that of a TorchServe that parsed the JSON itself, where it
    differs.
    """

    name: str
    content_type: str
    body: bytes
    message: str
    status: int = 400
    parsed_message: str = ""


def instances(*rows: object, **parameters: object) -> bytes:
    return orjson.dumps({"instances": rows, **({"parameters": parameters} if parameters else {})})


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=array.dtype == object)
    return buffer.getvalue()


def npy_header(shape: str, data: bytes = b"", descr: str = "<f4") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def png(width: int, height: int) -> bytes:
    """A black one-bit PNG; a large one is small on disk: https://www.w3.org/TR/png/#5DataRep."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = zlib.compress(bytes(((width + 7) // 8 + 1) * height), 1)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


class RunsCode:
    """Its pickle makes a marker file when loaded."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        from pathlib import Path

        return Path.touch, (Path(self.marker),)


def _json_with(token: str) -> bytes:
    return b'{"instances": [[%s%s]]}' % (token.encode(), b", 0.5" * 783)


def _top_k(value: object) -> bytes:
    return instances(ROW, top_k=value)


@functools.cache
def bad_requests() -> tuple[BadRequest, ...]:
    """Every wrong request of the contract."""
    digit = resource("data/digit.png").read_bytes()
    nan_row, inf_row = np.full((2, 784), 0.5, "<f4"), np.full((1, 784), 0.5, "<f4")
    nan_row[1, 7], inf_row[0, 3] = np.nan, np.inf
    objects = np.array([[{"a": 1}] * 784], dtype=object)
    finite = r"instances\[0\]\[0\]: expected a finite float32, found "
    top_k = "top_k: expected a whole number from 1 to 10, found "
    valid_json = "body: expected valid JSON, found "
    return (
        BadRequest("short row", JSON, instances(ROW[1:]), r"instances\[0\]: expected a row of 784 .*found 783"),
        BadRequest("long row", JSON, instances([*ROW, 1]), r"instances\[0\]: expected a row of 784 .*found 785"),
        BadRequest("ragged", JSON, instances(ROW, ROW[:3]), r"instances\[1\]: expected a row of 784 .*found 3"),
        BadRequest(
            "ragged image",
            JSON,
            instances([[0] * 28] * 27 + [[0] * 27]),
            r"instances\[0\]\[27\]: expected 28 numbers, found 27",
        ),
        BadRequest("flat list", JSON, orjson.dumps({"instances": ROW}), r"instances\[0\]: expected a row .*found 0.5"),
        BadRequest(
            "string",
            JSON,
            instances([*ROW[1:], "0\n5"]),
            r'instances\[0\]\[783\]: expected a number, found the string "0\\n5"',
        ),
        BadRequest("null", JSON, instances([None, *ROW[1:]]), r"instances\[0\]\[0\]: expected a number, found null"),
        BadRequest("boolean", JSON, instances([True, *ROW[1:]]), r"instances\[0\]\[0\]: expected a number, found true"),
        BadRequest("null row", JSON, instances(None), r"instances\[0\]: expected a row of 784 .*found null"),
        BadRequest("NaN", JSON, _json_with("NaN"), valid_json, parsed_message=finite + "nan"),
        BadRequest("Infinity", JSON, _json_with("Infinity"), valid_json, parsed_message=finite + "inf"),
        BadRequest("-Infinity", JSON, _json_with("-Infinity"), valid_json, parsed_message=finite + "-inf"),
        BadRequest("float32 overflow", JSON, _json_with("1e39"), finite + "inf"),
        BadRequest(
            "huge integer",
            JSON,
            _json_with("1" + "0" * 400),
            valid_json,
            parsed_message="instances: expected numbers that fit a float32, found one that does not",
        ),
        BadRequest(
            "lone surrogate",
            JSON,
            b'{"instances": ["\\ud800"]}',
            valid_json,
            parsed_message=r'instances\[0\]: expected a row .*found the string "\\ud800"',
        ),
        BadRequest("empty JSON body", JSON, b"", "body: expected one or more rows, found an empty body"),
        BadRequest("empty raw body", RAW, b"", "body: expected one or more rows, found an empty body"),
        BadRequest("empty list", JSON, instances(), "instances: expected a list of one or more rows, found an empty"),
        BadRequest("empty row", JSON, instances([]), r"instances\[0\]: expected a row of 784 .*found 0"),
        BadRequest("empty object", JSON, b"{}", "instances: expected a list of rows, found none"),
        BadRequest("JSON null", JSON, b"null", "body: expected an object .*found null"),
        BadRequest("JSON number", JSON, b"10000000000", "body: expected an object .*found 10000000000"),
        BadRequest("JSON true", JSON, b"true", "body: expected an object .*found true"),
        BadRequest("JSON string", JSON, b'"seven"', 'body: expected an object .*found the string "seven"'),
        BadRequest("JSON list", JSON, orjson.dumps([ROW]), "body: expected an object .*found a list of 1"),
        BadRequest(
            "unknown field",
            JSON,
            b'{"instances": [], "inputs": 1}',
            "body: expected the fields 'instances' and 'parameters', found 'inputs'",
        ),
        BadRequest("unknown parameter", JSON, instances(ROW, topk=1), "parameters: expected 'top_k', found 'topk'"),
        BadRequest(
            "parameters no object",
            JSON,
            b'{"instances": [[1]], "parameters": 3}',
            "parameters: expected an object, found 3",
        ),
        BadRequest("truncated JSON", JSON, instances(ROW)[:-9], valid_json),
        BadRequest("deep nesting", JSON, b'{"instances": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", valid_json),
        BadRequest("invalid UTF-8", JSON, b'{"instances": ["\xff\xfe"]}', valid_json),
        BadRequest("raw rows cut", RAW, bytes(3137), "body: expected a multiple of 3136 bytes .*found 3137 bytes"),
        BadRequest("raw NaN", RAW, nan_row.tobytes(), r"body\[1\]\[7\]: expected a finite float32, found nan"),
        BadRequest("truncated PNG", PNG, digit[: len(digit) // 2], "image: expected a readable PNG or JPEG, found"),
        BadRequest("no PNG", PNG, b"GIF89a" + bytes(99), "image: expected a readable PNG or JPEG, found"),
        BadRequest("bomb", PNG, png(20_000, 20_000), "image: expected at most 16777216 pixels, found", 413),
        BadRequest("object dtype", NPY, npy(objects), "array: expected dtype .*found object"),
        BadRequest("pickle", NPY, pickle.dumps([ROW]), "array: expected a .npy file of version 1 or 2, found none"),
        BadRequest("npy infinity", NPY, npy(inf_row), r"array\[0\]\[3\]: expected a finite float32, found inf"),
        BadRequest("npy dtype", NPY, npy(np.zeros((1, 784), np.int64)), "array: expected dtype .*found int64"),
        BadRequest("npy shape", NPY, npy(np.zeros((2, 28, 27))), r"array: expected shape .*found \(2, 28, 27\)"),
        BadRequest("npy no rows", NPY, npy(np.zeros((0, 784))), r"array: expected shape .*found \(0, 784\)"),
        BadRequest("npy scalar", NPY, npy(np.float64(1)), r"array: expected shape .*found \(\)"),
        BadRequest(
            "npy True", NPY, npy_header("(True, 784)", bytes(3136)), r"array: expected shape .*found \(True, 784\)"
        ),
        BadRequest(
            "npy header", NPY, npy_header("(1, " + "7" * 9000 + "x)"), "array: expected a .npy .*none: Cannot parse"
        ),
        BadRequest("npy cut", NPY, npy(inf_row)[:-1], "array: expected 3136 bytes after the header .*found 3135"),
        BadRequest("CSV", "text/csv", b"1,2,3", "Content-Type: expected .*found text/csv", 415),
        BadRequest("long type", "text/" + "x" * 5000, b"1,2,3", "Content-Type: expected .*found text/x{75}$", 415),
        BadRequest(
            "curl -d",
            URL_ENCODED_FORM,
            b"{}",
            "Content-Type: expected .*found application/x-www-form-urlencoded",
            415,
        ),
        BadRequest("no type", "", b"seven", "Content-Type: expected .*found none", 415),
        BadRequest("top_k 0", JSON, _top_k(0), top_k + "0"),
        BadRequest("top_k -1", JSON, _top_k(-1), top_k + "-1"),
        BadRequest("top_k 11", JSON, _top_k(11), top_k + "11"),
        BadRequest("top_k text", JSON, _top_k("x"), top_k + 'the string "x"'),
        BadRequest("top_k fraction", JSON, _top_k(2.5), top_k + "2.5"),
        BadRequest("top_k true", JSON, _top_k(True), top_k + "true"),
    )
