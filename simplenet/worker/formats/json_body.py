"""One format each: the bytes of JSON, an image, raw floats or a .npy array to rows `(n, input_size)` float32.

Every function here raises a RequestError that names the field, what was expected and what came.
"""

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from PIL import Image, ImageOps, UnidentifiedImageError

from simplenet.errors import PayloadTooLargeError, RequestError, UnsupportedMediaTypeError
from simplenet.text import quoted
from simplenet.worker import fast_json, fast_png

JSON = "application/json"
NPY = "application/x-npy"
RAW = "application/octet-stream"
IMAGES = ("image/png", "image/jpeg")
MAX_IMAGE_PIXELS = 16_777_216  # 4096 x 4096: a larger picture is a decompression bomb, not a digit
SMALL_SIDE = 8  # a transparent image is made this many times the model's before it is blended
_NUMBERS = frozenset((int, float))


@dataclass(frozen=True)
class Shape:
    """What the model takes and gives: numbers in a row, and the label of each class."""

    input_size: int
    classes: tuple[str, ...]

    @property
    def side(self) -> int | None:
        """Pixels along the edge where a row is a square image, else None."""
        side = math.isqrt(self.input_size)
        return side if side * side == self.input_size else None

    @property
    def row(self) -> str:
        """How a message describes one row."""
        return f"{self.input_size} numbers" + (f" or {self.side}x{self.side}" if self.side else "")


def json_body(data: memoryview, shape: Shape) -> tuple[np.ndarray, dict[str, Any]]:
    """Rows and parameters of a JSON body: the common form at once, any other with care."""
    body = bytes(data)
    return fast_json.parse(body, shape.input_size) or json_rows(_parse_json(body), shape)


def _parse_json(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"body: expected valid JSON, found {error}") from error


def json_rows(body: Any, shape: Shape) -> tuple[np.ndarray, dict[str, Any]]:
    """Rows and parameters of `{"instances": [row, …], "parameters": {…}}`."""
    if not isinstance(body, dict):
        raise RequestError(f'body: expected an object {{"instances": [row, …]}}, found {describe(body)}')
    if unknown := [name for name in body if name not in ("instances", "parameters")]:
        raise RequestError(f"body: expected the fields 'instances' and 'parameters', found {quoted(unknown)}")
    if "instances" not in body:
        raise RequestError(f"instances: expected a list of rows, found {quoted(body)} in the body")
    instances = body["instances"]
    if not isinstance(instances, list) or not instances:
        raise RequestError(f"instances: expected a list of one or more rows, found {describe(instances)}")
    parameters = body.get("parameters", {})
    if not isinstance(parameters, dict):
        raise RequestError(f"parameters: expected an object, found {describe(parameters)}")
    if unknown := [name for name in parameters if name != "top_k"]:
        raise RequestError(f"parameters: expected 'top_k', found {quoted(unknown)}")
    flat = [_flat_row(row, index, shape) for index, row in enumerate(instances)]
    try:
        with np.errstate(over="ignore"):
            rows = np.array(flat, dtype=np.float32)
    except OverflowError as error:  # a whole number beyond any float
        raise RequestError(
            f"instances: expected numbers that fit a float32, found one that does not: {error}"
        ) from error
    return _finite(rows, "instances"), parameters


def _flat_row(row: Any, index: int, shape: Shape) -> list[float]:
    """One row of JSON as a flat list of numbers; strings, null and booleans are not numbers."""
    where = f"instances[{index}]"
    if not isinstance(row, list):
        raise RequestError(f"{where}: expected a row of {shape.row}, found {describe(row)}")
    if shape.side and len(row) == shape.side and all(type(line) is list for line in row):
        for number, line in enumerate(row):
            if len(line) != shape.side:
                raise RequestError(f"{where}[{number}]: expected {shape.side} numbers, found {len(line)}")
        row = [value for line in row for value in line]
    if len(row) != shape.input_size:
        raise RequestError(f"{where}: expected a row of {shape.row}, found {len(row)}")
    if not _NUMBERS.issuperset(map(type, row)):
        position = next(i for i, value in enumerate(row) if type(value) not in _NUMBERS)
        raise RequestError(f"{where}[{position}]: expected a number, found {describe(row[position])}")
    numbers: list[float] = row
    return numbers


def image_row(data: memoryview, content_type: str, shape: Shape) -> np.ndarray:
    """One image as a row `(1, input_size)` float32: grey, resized, scaled to 0..1."""
    if shape.side is None:
        raise UnsupportedMediaTypeError(
            f"Content-Type: this model takes rows of {shape.input_size} numbers, which is no square image; "
            f"expected {JSON}, {RAW} or {NPY}, found {content_type}"
        )
    row = fast_png.parse(data, shape.side)
    return careful_image_row(data, shape.side) if row is None else row


def careful_image_row(data: memoryview, side: int) -> np.ndarray:
    """Any PNG or JPEG as a row `(1, side * side)` float32."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise PayloadTooLargeError(
                    f"image: expected at most {MAX_IMAGE_PIXELS} pixels, found {image.width}x{image.height}"
                )
            grey = _grey(ImageOps.exif_transpose(image), side)
    except RequestError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # pillow's own limit
        raise PayloadTooLargeError(f"image: expected at most {MAX_IMAGE_PIXELS} pixels, found more: {error}") from error
    except UnidentifiedImageError as error:  # whose own message names a Python object
        raise RequestError("image: expected a readable PNG or JPEG, found another kind of file") from error
    except Exception as error:  # pillow raises many kinds for a damaged image; each means the same to the client
        raise RequestError(f"image: expected a readable PNG or JPEG, found one that is not: {error}") from error
    if grey.size != (side, side):
        grey = grey.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(grey, dtype=np.float32).reshape(1, -1) / 255


def _grey(image: Image.Image, side: int) -> Image.Image:
    """8-bit grey; what is transparent becomes black, 16-bit values lose their low byte."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        colour = image.convert("RGBA")
        if max(colour.size) > SMALL_SIDE * side:
            # Blending 16 million pixels takes a second, and a batch of such would outlast the worker's time limit.
            fewer = (min(colour.width, SMALL_SIDE * side), min(colour.height, SMALL_SIDE * side))
            colour = colour.convert("RGBa").resize(fewer, Image.Resampling.BILINEAR, reducing_gap=3.0).convert("RGBA")
        black = Image.new("RGBA", colour.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, colour).convert("L")
    return image.convert("L")


def raw_rows(data: memoryview, shape: Shape) -> np.ndarray:
    """Little-endian float32, `(n, input_size)`."""
    if len(data) % (4 * shape.input_size):
        raise RequestError(
            f"body: expected a multiple of {4 * shape.input_size} bytes (rows of {shape.input_size} float32), "
            f"found {len(data)} bytes"
        )
    return _finite(np.frombuffer(data, dtype="<f4").reshape(-1, shape.input_size), "body")


def npy_rows(data: memoryview, shape: Shape) -> np.ndarray:
    """A .npy array `(n, input_size)` or `(n, side, side)`: floats, or uint8 scaled to 0..1.

    Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """
    array = _read_npy(data, shape)
    rows = array.reshape(len(array), shape.input_size)
    if rows.dtype == np.uint8:
        return rows.astype(np.float32) / 255
    with np.errstate(over="ignore", invalid="ignore"):
        return _finite(rows.astype(np.float32), "array")


def _read_npy(data: memoryview, shape: Shape) -> np.ndarray:
    """The array, if its header is honest about what follows; nothing is unpickled."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        dims, fortran_order, dtype = readers[version](stream)
    except Exception as error:  # the header is a Python literal: a damaged one fails in many ways
        raise RequestError(f"array: expected a .npy file of version 1 or 2, found none: {error}") from error
    if dtype.kind != "f" and dtype != np.uint8:
        raise RequestError(f"array: expected dtype float16, float32, float64 or uint8, found {str(dtype)[:64]}")
    form = f"(n, {shape.input_size})" + (f" or (n, {shape.side}, {shape.side})" if shape.side else "")
    fits = dims[1:] == (shape.input_size,) or (shape.side and dims[1:] == (shape.side, shape.side))
    if not fits or dims[0] < 1:
        raise RequestError(f"array: expected shape {form} with n of at least 1, found {str(dims)[:64]}")
    found = len(data) - stream.tell()
    expected = math.prod(dims) * dtype.itemsize
    if found != expected:
        raise RequestError(f"array: expected {expected} bytes after the header for shape {dims}, found {found}")
    return np.frombuffer(data, dtype, offset=stream.tell()).reshape(dims, order="F" if fortran_order else "C")


def _finite(rows: np.ndarray, where: str) -> np.ndarray:
    if not np.isfinite(rows).all():
        row, position = (int(i) for i in np.argwhere(~np.isfinite(rows))[0])
        raise RequestError(f"{where}[{row}][{position}]: expected a finite float32, found {rows[row, position]}")
    return rows


def describe(value: Any) -> str:
    """A value in a message: short, as JSON writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return str(value)[:32]
    if isinstance(value, str):
        return f"the string {json.dumps(value[:32])}"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    return f"an object with {quoted(value)}" if isinstance(value, Mapping) else type(value).__name__
