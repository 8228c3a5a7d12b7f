"""Images: one PNG or JPEG as one row, grey, resized to the model's side, scaled to 0..1."""

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from simplenet.errors import PayloadTooLargeError, RequestError
from simplenet.worker.formats import fast_png
from simplenet.worker.formats.format import Rows
from simplenet.worker.model_spec import ModelSpec

PNG_SIGNATURES = (b"\x89PNG",)
JPEG_SIGNATURES = (b"\xff\xd8\xff",)
MAX_IMAGE_PIXELS = 16_777_216  # 4096 x 4096: a larger picture is a decompression bomb, not a digit
SMALL_SIDE = 8  # a transparent image is reduced to this many times the model's side before blending


def decode(data: memoryview, spec: ModelSpec) -> Rows:
    """The row `(1, input_size)` float32 of one image, for a model of square rows.

    Raises:
        RequestError: the body is not a PNG or JPEG, or is damaged.
        PayloadTooLargeError: more than MAX_IMAGE_PIXELS pixels.
    """
    if spec.side is None:
        raise ValueError(f"spec: expected a model of square rows, found rows of {spec.row}")
    row = fast_png.parse(data, spec.side)
    return (careful_row(data, spec.side) if row is None else row), {}


def careful_row(data: memoryview, side: int) -> np.ndarray:
    """The row `(1, side * side)` float32 of any PNG or JPEG."""
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
    except UnidentifiedImageError as error:  # its own message names a Python object
        raise RequestError("image: expected a readable PNG or JPEG, found another kind of file") from error
    except Exception as error:  # pillow raises many kinds for a damaged image; each means the same to the client
        raise RequestError(f"image: expected a readable PNG or JPEG, found a damaged one: {error}") from error
    if grey.size != (side, side):
        grey = grey.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(grey, dtype=np.float32).reshape(1, -1) / 255


def _grey(image: Image.Image, side: int) -> Image.Image:
    """8-bit grey; transparent parts become black, 16-bit values lose their low byte."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        colour = image.convert("RGBA")
        if max(colour.size) > SMALL_SIDE * side:
            # Blending 16 million pixels takes a second, and a batch of such images would exceed the worker's timeout.
            fewer = (min(colour.width, SMALL_SIDE * side), min(colour.height, SMALL_SIDE * side))
            colour = colour.convert("RGBa").resize(fewer, Image.Resampling.BILINEAR, reducing_gap=3.0).convert("RGBA")
        black = Image.new("RGBA", colour.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, colour).convert("L")
    return image.convert("L")
