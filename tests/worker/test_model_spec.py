"""The shapes that a row may have in a request, in every format, and how a message describes them."""

import io

import numpy as np
import orjson
import pytest
from PIL import Image

from simplenet.errors import RequestError, UnsupportedMediaTypeError
from simplenet.media_types import JPEG, JSON, NPY, PNG
from simplenet.worker.formats.npy import encode
from simplenet.worker.formats.table import decode_body
from simplenet.worker.model_spec import ModelSpec

CLASSES = ("a", "b")
GREY_WIDE = ModelSpec(6, CLASSES, (1, 2, 3))
COLOUR = ModelSpec(18, CLASSES, (3, 2, 3))
VOLUME = ModelSpec(784, CLASSES, (4, 14, 14))


def decode(body: bytes, media_type: str, spec: ModelSpec) -> np.ndarray:
    return decode_body(memoryview(body), media_type, spec)[0]


def picture(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("spec", "image", "side", "row"),
    [
        (ModelSpec(784, CLASSES), (1, 28, 28), 28, "784 numbers or 28x28"),
        (ModelSpec(784, CLASSES, (784,)), (1, 28, 28), 28, "784 numbers or 28x28"),
        (ModelSpec(784, CLASSES, (28, 28)), (1, 28, 28), 28, "784 numbers or 28x28"),
        (ModelSpec(784, CLASSES, (1, 28, 28)), (1, 28, 28), 28, "784 numbers, 1x28x28 or 28x28"),
        (GREY_WIDE, (1, 2, 3), None, "6 numbers, 1x2x3 or 2x3"),
        (COLOUR, (3, 2, 3), None, "18 numbers or 3x2x3"),
        (VOLUME, None, None, "784 numbers or 4x14x14"),
        (ModelSpec(3, CLASSES), None, None, "3 numbers"),
    ],
)
def test_a_shape_says_what_a_row_is(spec, image, side, row):
    assert (spec.image, spec.side, spec.row) == (image, side, row)


@pytest.mark.parametrize("spec", [GREY_WIDE, COLOUR, VOLUME, ModelSpec(784, CLASSES, (1, 28, 28))], ids=str)
def test_json_and_npy_take_a_row_flat_or_in_its_shape(spec):
    rows = np.random.default_rng(0).random((3, spec.input_size), np.float32)
    for shape in ((spec.input_size,), *spec.row_shapes):
        nested = rows.reshape(3, *shape)
        body = orjson.dumps({"instances": nested.tolist()})
        np.testing.assert_array_equal(decode(body, JSON, spec), rows)
        np.testing.assert_array_equal(decode(encode(nested), NPY, spec), rows)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1, 2], "instances[0]: expected a row of 18 numbers or 3x2x3, found 2"),
        ([[1] * 9] * 2, "instances[0]: expected a row of 18 numbers or 3x2x3, found 2"),
        ([[[1, 2, 3]] * 2] * 2, "instances[0]: expected a row of 18 numbers or 3x2x3, found 2"),
        ([[[1, 2, 3]] * 2] * 4, "instances[0]: expected a row of 18 numbers or 3x2x3, found 4"),
        ([[[1, 2, 3]] * 2, [[1, 2, 3]], [[1, 2, 3]] * 2], "instances[0][1]: expected 2 lists, found 1"),
        ([[[1, 2, 3]] * 2, [[1, 2, 3], [1, 2]], [[1, 2, 3]] * 2], "instances[0][1][1]: expected 3 numbers, found 2"),
        ([[[1, 2, 3]] * 2, [[1, 2, 3], 7], [[1, 2, 3]] * 2], "instances[0][1][1]: expected 3 numbers, found 7"),
        ([[[1, 2, 3]] * 2, [[1, 2, None]] * 2, [[1, 2, 3]] * 2], "instances[0][8]: expected a number, found null"),
        ([[]] * 3, "instances[0]: expected a row of 18 numbers or 3x2x3, found 3"),
    ],
)
def test_a_row_in_another_shape_is_told_where(row, message):
    with pytest.raises(RequestError) as caught:
        decode(orjson.dumps({"instances": [row]}), JSON, COLOUR)
    assert str(caught.value) == message


def test_an_array_in_another_shape_is_told_the_shapes():
    with pytest.raises(RequestError, match=r"expected shape \(n, 6\) or \(n, 1, 2, 3\) or \(n, 2, 3\) with n"):
        decode(encode(np.ones((1, 3, 2))), NPY, GREY_WIDE)


def test_a_picture_of_any_size_becomes_height_by_width():
    pixels = np.array([[0, 51, 102], [153, 204, 255]], np.uint8)
    np.testing.assert_allclose(decode(picture(pixels), PNG, GREY_WIDE), pixels.reshape(1, 6) / 255)
    left_half = np.zeros((40, 60), np.uint8)
    left_half[:, :20] = 255
    np.testing.assert_allclose(decode(picture(left_half), PNG, GREY_WIDE)[0], [1, 0, 0] * 2, atol=0.2)
    assert decode(picture(left_half, "JPEG"), JPEG, GREY_WIDE).shape == (1, 6)


def test_a_colour_row_has_all_red_first_then_green_then_blue():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 3), np.uint8)
    row = decode(picture(pixels), PNG, COLOUR)
    np.testing.assert_allclose(row, pixels.transpose(2, 0, 1).reshape(1, 18) / 255, rtol=1e-6)
    assert row.dtype == np.float32
    np.testing.assert_array_equal(decode(encode(pixels.transpose(2, 0, 1)[None]), NPY, COLOUR), row)


def test_a_grey_or_transparent_picture_serves_a_colour_network():
    grey = np.full((5, 5), 51, np.uint8)
    np.testing.assert_allclose(decode(picture(grey), PNG, COLOUR), 0.2)
    clear = np.full((4, 6, 4), (255, 0, 0, 0), np.uint8)
    np.testing.assert_array_equal(decode(picture(clear), PNG, COLOUR), 0)
    deep = np.full((2, 3), 51 * 256, np.uint16)
    np.testing.assert_allclose(decode(picture(deep), PNG, COLOUR), 0.2)
    red = np.full((2, 3, 4), (255, 0, 0, 255), np.uint8)
    np.testing.assert_array_equal(decode(picture(red), PNG, COLOUR), [[1] * 6 + [0] * 12])


def test_a_picture_for_rows_that_are_none_is_refused():
    with pytest.raises(UnsupportedMediaTypeError, match="takes rows of 784 numbers or 4x14x14, which is no image"):
        decode(picture(np.zeros((28, 28), np.uint8)), PNG, VOLUME)
