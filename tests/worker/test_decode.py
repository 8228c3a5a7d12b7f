import io
import string

import numpy as np
import orjson
import pytest
from bad_requests import BadRequest, bad_requests, instances, npy, npy_header, png
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from simplenet.errors import (
    NotAcceptableError,
    NotFoundError,
    PayloadTooLargeError,
    RequestError,
    UnsupportedMediaTypeError,
)
from simplenet.media_types import FORM, JPEG, JSON, NPY, PNG, RAW, TEXT, URL_ENCODED_FORM
from simplenet.worker import decode as decoder
from simplenet.worker.encode import encode_error
from simplenet.worker.formats.table import FORMATS
from simplenet.worker.messages import DecodedRequest, RawRequest
from simplenet.worker.model_spec import ModelSpec

DIGITS = ModelSpec(784, tuple(string.digits))
SMALL = ModelSpec(4, ("a", "b", "c"))  # rows of 4, or images of 2 x 2
FLAT = ModelSpec(3, ("a", "b"))  # no square image
TYPES = [JSON, NPY, RAW, PNG, JPEG, "", TEXT, URL_ENCODED_FORM]

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["instances", "top_k", "x"]), inner),
    max_leaves=8,
)


def decode(body: object, content_type: str, spec: ModelSpec = SMALL, **headers: str) -> DecodedRequest:
    return decoder.decode(RawRequest(b"", {"Content-Type": content_type, **headers}, {"body": body}), spec)


def refusal(body: object, content_type: str, spec: ModelSpec = SMALL) -> str:
    with pytest.raises(RequestError) as caught:
        decode(body, content_type, spec)
    error = orjson.loads(encode_error(caught.value).body)
    assert error.keys() == {"code", "type", "message"}
    assert 400 <= error["code"] < 500
    assert len(error["message"].splitlines()) == 1
    return error["message"]


def image(mode: str, colour: object, kind: str = "PNG", size: tuple[int, int] = (2, 2)) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("bad", bad_requests(), ids=lambda bad: bad.name)
def test_a_wrong_request_is_refused_with_field_expected_and_found(bad: BadRequest):
    with pytest.raises(RequestError, match=bad.message) as caught:
        decode(bytearray(bad.body), bad.content_type, DIGITS)
    assert caught.value.status == bad.status
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 500  # a message does not repeat the body


@given(st.binary(), st.sampled_from(TYPES))
def test_arbitrary_bytes_never_raise_anything_but_a_request_error(body, content_type):
    try:
        decode(bytearray(body), content_type)
    except RequestError as error:
        orjson.loads(encode_error(error).body)


@given(json_values)
def test_arbitrary_json_never_raises_anything_but_a_request_error(value):
    for body in (value, {"instances": value}, {"instances": [[1, 2, 3, 4]], "parameters": value}):
        try:
            decode(body, JSON)
        except RequestError as error:
            assert orjson.loads(encode_error(error).body)["message"].isprintable()


@given(
    st.text("(),-0123456789Truefals ", max_size=12) | array_shapes().map(str),
    st.sampled_from(["<f4", ">f8", "|u1", "|O", "<i4", "<f2", "|V8", "x"]),
    st.binary(max_size=16),
)
def test_an_npy_header_that_lies_never_raises_anything_but_a_request_error(shape, descr, data):
    try:
        decode(npy_header(shape, data, descr), NPY)
    except RequestError as error:
        orjson.loads(encode_error(error).body)


@pytest.mark.parametrize(
    "shape", ["(-1, -784)", "(0, 784)", f"(0, {2**70})", f"({2**40}, 784)", "(1,) * 3", "(1, " * 70 + ")" * 70]
)
def test_an_npy_header_of_an_impossible_shape_is_refused(shape):
    assert refusal(npy_header(shape, bytes(3136)), NPY, DIGITS).startswith("array: expected")


def test_an_npy_header_too_large_to_be_one_is_refused_in_one_line():
    assert refusal(npy_header(f"(1, 4), 'x': '{'x' * 20_000}'", bytes(16)), NPY).startswith("array: expected")


@given(arrays(np.float32, st.tuples(st.integers(1, 5), st.just(4)), elements=floats))
def test_valid_rows_round_trip_through_every_content_type(rows):
    pictures = rows.reshape(-1, 2, 2)
    bodies = [
        (orjson.dumps({"instances": rows.tolist()}), "application/json; charset=utf-8"),
        (orjson.dumps({"instances": pictures.tolist()}), JSON),
        ({"instances": rows.tolist()}, JSON),  # parsed by TorchServe
        (rows.astype("<f4").tobytes(), RAW),
        (npy(rows), NPY),
        (npy(rows.astype(np.float64)), NPY),
        (npy(rows.astype(">f4")), NPY),
        (npy(np.asfortranarray(pictures)), NPY),
        (npy(rows), ""),
    ]
    for body, content_type in bodies:
        request = decode(body, content_type)
        assert request.rows.dtype == np.float32
        np.testing.assert_array_equal(request.rows, rows)


@given(arrays(np.uint8, (2, 2)))
def test_grey_pixels_are_scaled_to_0_to_1_alike_in_png_and_npy(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    expected = pixels.reshape(1, 4).astype(np.float32) / 255
    for body, content_type in ((buffer.getvalue(), PNG), (npy(pixels[None]), NPY), (npy(pixels.reshape(1, 4)), NPY)):
        np.testing.assert_array_equal(decode(body, content_type).rows, expected)


@pytest.mark.parametrize(
    ("body", "grey"),
    [
        (image("L", 51), 0.2),
        (image("RGB", (255, 255, 255)), 1),
        (image("RGBA", (255, 255, 255, 0)), 0),  # transparent is black
        (image("LA", (255, 255)), 1),
        (image("P", 0), 0),
        (image("1", 1), 1),
        (image("I;16", 51 * 256 + 9), 0.2),
        (image("L", 51, size=(300, 7)), 0.2),  # resized
        (image("L", 51, "JPEG", (64, 64)), 0.2),
        (image("CMYK", (0, 0, 0, 0), "JPEG"), 1),
    ],
)
def test_an_image_of_any_mode_and_size_becomes_grey(body, grey):
    for content_type in ("image/png", "image/jpeg", ""):
        np.testing.assert_allclose(decode(body, content_type).rows, np.full((1, 4), grey), atol=0.005)


@pytest.mark.parametrize("side", [4097, 10_000, 20_000])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_unpacked(side):
    with pytest.raises(PayloadTooLargeError, match="image: expected at most 16777216 pixels, found"):
        decode(png(side, side), PNG)


def test_a_model_of_flat_rows_refuses_images():
    with pytest.raises(UnsupportedMediaTypeError, match="rows of 3 numbers"):
        decode(image("L", 1), PNG, FLAT)


def form(content_type: str = f"{FORM}; boundary=x", part_type: str = "", **fields: object) -> DecodedRequest:
    parts = {name: {"content-type": part_type} for name in fields}
    return decoder.decode(RawRequest(b"", {**parts, "Content-Type": content_type}, fields), SMALL)


@pytest.mark.parametrize("part_type", ["", RAW, "text/plain", "image/png"])
def test_a_form_carries_an_image_and_top_k(part_type):
    request = form(part_type=part_type, data=bytearray(image("L", 255)), top_k=bytearray(b"2"))
    assert request.rows.tolist() == [[1, 1, 1, 1]]
    assert request.top_k == 2


@pytest.mark.parametrize(
    ("data", "part_type", "top_k"),
    [
        ({"instances": [[1, 1, 1, 1]]}, TEXT, 3),
        (b'{"instances": [[1, 1, 1, 1]]}', "text/plain", b"3"),
        ('{"instances": [[1, 1, 1, 1]]}', "text/plain", "3"),  # text that TorchServe decoded
        ({"instances": [[1, 1, 1, 1]]}, JSON, 3),  # JSON that TorchServe decoded
        (np.ones(4, "<f4").tobytes(), RAW, b"3"),
    ],
)
def test_a_form_carries_rows(data, part_type, top_k):
    request = form(part_type=part_type, data=data, top_k=top_k)
    assert request.rows.tolist() == [[1, 1, 1, 1]]
    assert request.top_k == 3


@pytest.mark.parametrize("bracket", [b"{", b"["])
def test_raw_rows_in_a_form_may_begin_with_the_byte_of_a_bracket(bracket):
    data = bracket + np.ones(4, "<f4").tobytes()[1:]
    np.testing.assert_array_equal(form(part_type=RAW, data=data).rows, np.frombuffer(data, "<f4").reshape(1, 4))


def test_json_in_a_form_of_unknown_type_may_be_as_long_as_raw_rows():
    body = b'{"instances": [[1, 2, 3, 4]]}'
    body += b" " * (-len(body) % 16)
    assert form(part_type=RAW, data=body).rows.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    "content_type",
    ["Application/JSON", ' application/json ; charset="utf-8"', 'application/json;profile="a;b, c";charset=utf-8'],
)
@pytest.mark.parametrize("name", ["Content-Type", "content-type", "CONTENT-TYPE"])
def test_content_type_is_read_in_any_case_and_with_any_parameters(name, content_type):
    request = RawRequest(b"", {name: content_type}, {"body": instances([1, 2, 3, 4])})
    assert decoder.decode(request, SMALL).rows.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("headers", "accept"),
    [
        ({"ACCEPT": NPY}, NPY),
        ({"accept": f"text/html, {RAW}"}, RAW),
        ({"Accept": f"{JSON};q=0.5", "accept": NPY}, NPY),  # the two are one list
        ({"Accept": NPY, "accept": f"{JSON};q=0.5"}, NPY),
        ({}, JSON),
    ],
)
def test_accept_is_read_in_any_case_and_from_several_headers(headers, accept):
    assert decode(instances([1, 2, 3, 4]), JSON, **headers).accept == accept


def test_a_request_that_refuses_everything_offered_is_not_acceptable():
    with pytest.raises(NotAcceptableError, match=r"Accept: expected one of application/json, .*found ") as caught:
        decode(instances([1, 2, 3, 4]), JSON, Accept="*/*;q=0")
    assert orjson.loads(encode_error(caught.value).body)["code"] == 406


def test_the_message_for_another_content_type_lists_every_format():
    message = refusal(b"1,2,3", "text/csv")
    for media_type in (*FORMATS, FORM):
        assert media_type in message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image": b"x"}, "form: expected a field 'data', found 'image'"),
        ({}, "form: expected a field 'data', found none"),
        ({"data": b"x", "other": b""}, "form: expected the fields 'data' and 'top_k', found 'other'"),
        ({"data": image("L", 1), "top_k": b"-1"}, "top_k: expected a whole number from 1 to 3, found -1"),
        ({"data": image("L", 1), "top_k": b"\xff"}, "top_k: expected a whole number from 1 to 3, found the string"),
        ({"data": image("L", 1), "top_k": {"a": 1}}, "top_k: expected a whole number from 1 to 3, found an object"),
        ({"data": image("L", 1), "top_k": 10**12}, "top_k: expected a whole number from 1 to 3, found 1000000000000"),
    ],
)
def test_a_wrong_form_is_refused(fields, message):
    with pytest.raises(RequestError, match=message):
        form(**fields)


def test_a_request_without_a_body_is_refused():
    with pytest.raises(RequestError, match="body: expected one or more rows, found nothing"):
        decoder.decode(RawRequest(b"", {"Content-Type": JSON}, {}), SMALL)


def test_a_call_for_explanations_is_not_found():
    with pytest.raises(NotFoundError):
        decode(instances([1, 2, 3, 4]), JSON, explain="True")


def test_a_compressed_body_is_415_with_its_coding():
    with pytest.raises(UnsupportedMediaTypeError, match="Content-Encoding: expected none, found 'gzip'"):
        decode(b"\x1f\x8b", JSON, **{"Content-Encoding": "gzip"})


def test_another_kind_of_image_is_refused_without_naming_objects_of_the_server():
    body = io.BytesIO()
    Image.new("L", (2, 2)).save(body, "GIF")
    assert refusal(body.getvalue(), PNG) == "image: expected a readable PNG or JPEG, found another kind of file"


def test_a_large_transparent_image_is_answered_as_the_same_one_on_black():
    clear = Image.new("RGBA", (431, 300), (255, 255, 255, 0))
    black = Image.new("L", clear.size)
    for image, white in ((clear, (255, 255, 255, 255)), (black, 255)):
        image.paste(white, (40, 30, 200, 250))
    found = []
    for image in (clear, black):
        body = io.BytesIO()
        image.save(body, "PNG")
        found.append(decode(body.getvalue(), PNG, DIGITS).rows)
    assert np.abs(found[0] - found[1]).max() < 0.05
