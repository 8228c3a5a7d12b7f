"""Images: one PNG or JPEG as one row, grey or RGB, resized to the model's height and width, scaled to 0..1.

A row of an RGB image holds all red values first, then green, then blue: `(3, height, width)`, flattened.
"""

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from simplenet.errors import PayloadTooLargeError, RequestError
from simplenet.text import LONGEST_VALUE
from simplenet.worker.formats import fast_png
from simplenet.worker.formats.format import Rows
from simplenet.worker.model_spec import GREY, ModelSpec

PNG_SIGNATURES = (b"\x89PNG",)
JPEG_SIGNATURES = (b"\xff\xd8\xff",)
MAX_IMAGE_PIXELS = 16_777_216  # 4096 x 4096: a larger picture is a decompression bomb, not a digit
SMALL_SIDE = 8  # a transparent image is reduced to this many times the model's height and width before blending


def decode(data: memoryview, spec: ModelSpec) -> Rows:
    """The row `(1, input_size)` float32 of one image, for a model whose rows are images.

    Raises:
        RequestError: the body is not a PNG or JPEG, or is damaged.
        PayloadTooLargeError: more than MAX_IMAGE_PIXELS pixels.
    """
    if spec.image is None:
        raise ValueError(f"spec: expected a model whose rows are images, found rows of {spec.row}")
    row = fast_png.parse(data, spec.side) if spec.side else None
    channels, height, width = spec.image
    return (careful_row(data, height, width, channels) if row is None else row), {}


def careful_row(data: memoryview, height: int, width: int | None = None, channels: int = GREY) -> np.ndarray:
    """The row `(1, channels * height * width)` float32 of any PNG or JPEG; a square one by default."""
    size = (width or height, height)
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise PayloadTooLargeError(
                    f"image: expected at most {MAX_IMAGE_PIXELS} pixels, found {image.width}x{image.height}"
                )
            pixels = _opaque(ImageOps.exif_transpose(image), size, "L" if channels == GREY else "RGB")
    except RequestError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # pillow's own limit
        raise PayloadTooLargeError(f"image: expected at most {MAX_IMAGE_PIXELS} pixels, found more: {error}") from error
    except UnidentifiedImageError as error:  # its own message names a Python object
        raise RequestError("image: expected a readable PNG or JPEG, found another kind of file") from error
    except Exception as error:  # pillow raises many kinds for a damaged image; each means the same to the client
        reason = str(error)[:LONGEST_VALUE]
        raise RequestError(f"image: expected a readable PNG or JPEG, found a damaged one: {reason}") from error
    if pixels.size != size:
        pixels = pixels.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)
    values = np.asarray(pixels, dtype=np.float32)  # (height, width), or (height, width, 3)
    return (values if channels == GREY else values.transpose(2, 0, 1)).reshape(1, -1) / 255


def _opaque(image: Image.Image, size: tuple[int, int], mode: str) -> Image.Image:
    """8-bit grey (mode L) or RGB; transparent parts become black, 16-bit values lose their low byte.

    `size` is the width and height that the image will be resized to.
    """
    if image.mode.startswith("I"):
        grey = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
        return grey.convert(mode)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        colour = image.convert("RGBA")
        fewer = (min(colour.width, SMALL_SIDE * size[0]), min(colour.height, SMALL_SIDE * size[1]))
        if fewer != colour.size:
            # Blending 16 million pixels takes a second, and a batch of such images would exceed the worker's timeout.
            colour = colour.convert("RGBa").resize(fewer, Image.Resampling.BILINEAR, reducing_gap=3.0).convert("RGBA")
        black = Image.new("RGBA", colour.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, colour).convert(mode)
    return image.convert(mode)
