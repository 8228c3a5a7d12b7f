"""The fast reader of PNG files takes what the careful one takes, to the same row, and leaves the rest to it."""

import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from simplenet.errors import RequestError
from simplenet.worker.formats import fast_png
from simplenet.worker.formats.image import careful_row
from simplenet.worker.model_spec import ModelSpec

SPEC = ModelSpec(16, ("a", "b"))
pixels = st.binary(min_size=16, max_size=16).map(lambda data: np.frombuffer(data, np.uint8).reshape(4, 4))


def png(image: Image.Image | np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, "PNG", **options)
    return file.getvalue()


def fast(data: bytes) -> np.ndarray | None:
    return fast_png.parse(memoryview(data), SPEC.side)


def carefully(data: bytes) -> np.ndarray:
    return careful_row(memoryview(data), SPEC.side)


@given(pixels, st.integers(0, 9))
def test_a_row_is_the_careful_readers(image, level):
    data = png(image, compress_level=level)
    row = fast(data)
    assert row is not None
    assert row.dtype == np.float32
    np.testing.assert_array_equal(row, carefully(data))


@given(pixels, st.data())
def test_a_damaged_file_is_left_or_read_as_carefully(image, data):
    file = bytearray(png(image))
    for _ in range(data.draw(st.integers(1, 3))):
        file[data.draw(st.integers(0, len(file) - 1))] ^= data.draw(st.integers(1, 255))
    cut = bytes(file[: data.draw(st.integers(len(file) - 20, len(file)))])
    row = fast(cut)
    if row is not None:
        np.testing.assert_array_equal(row, carefully(cut))


def test_any_flipped_bit_of_the_pixels_is_left_to_the_careful_reader():
    file = png(IMAGE)
    assert fast(file) is not None
    for position in range(file.index(b"IDAT"), len(file) - 12):
        for bit in range(8):
            damaged = bytearray(file)
            damaged[position] ^= 1 << bit
            assert fast(bytes(damaged)) is None, (position, bit)


def with_exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def with_text(key: str, value: str) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text(key, value)
    return info


IMAGE = np.arange(16, dtype=np.uint8).reshape(4, 4) * 16


@pytest.mark.parametrize(
    "data",
    [
        png(IMAGE, exif=with_exif(6)),
        png(IMAGE, transparency=16),
        png(IMAGE, pnginfo=with_text("Comment", "x")),
        png(Image.fromarray(IMAGE), save_all=True, append_images=[Image.fromarray(IMAGE[::-1])]),
        png(Image.fromarray(IMAGE).convert("RGB")),
        png(Image.fromarray(IMAGE).convert("LA")),
        png(Image.fromarray(IMAGE).convert("P")),
        png(Image.fromarray(IMAGE).convert("1")),
        png(Image.fromarray(IMAGE.astype(np.uint16))),
        png(IMAGE[:3]),
        png(np.tile(IMAGE, (2, 2))),
    ],
    ids=[
        "orientation",
        "transparent",
        "text",
        "animated",
        "RGB",
        "LA",
        "palette",
        "1 bit",
        "16 bits",
        "flat",
        "larger",
    ],
)
def test_what_is_not_the_common_form_is_left_to_the_careful_reader(data):
    assert fast(data) is None
    assert carefully(data).shape == (1, 16)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", png(IMAGE)[:40], png(IMAGE)[:50]])
def test_what_is_no_image_is_left_to_the_careful_reader(data):
    assert fast(data) is None
    with pytest.raises(RequestError):
        carefully(data)


@pytest.mark.parametrize(("blocked", "active"), [("", "pyspng"), ("pyspng", "pillow")])
def test_which_reader_is_active_can_be_asked(blocked, active):
    code = f"import sys; sys.modules[{blocked!r}] = None; from simplenet.worker.formats import fast_png as reader"
    run = subprocess.run(
        [sys.executable, "-c", f"{code}; print(reader.ACTIVE)"], check=True, capture_output=True, text=True
    )
    assert run.stdout.strip() == active
