"""NumPy's data under the names of every version, and what is not numbers."""

import datetime
import io
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from simplenet.checkpoint.reading import StandIn, read_pickle
from simplenet.errors import NotACheckpointError


def read(data: bytes) -> Any:
    return read_pickle(io.BytesIO(data), torch.device("cpu"), "file")


@pytest.mark.parametrize("protocol", range(6))
def test_the_names_of_numpy_1_are_known(protocol: int) -> None:
    value = [np.arange(3.0), np.float32(2), np.zeros((2, 2), "i4")]
    data = pickle.dumps(value, protocol)
    if protocol < 4:  # where names are lines
        data = data.replace(b"numpy._core", b"numpy.core")
    found = read(data)
    assert np.array_equal(found[0], value[0])
    assert found[1] == 2
    assert type(found[1]) is np.float32
    assert np.array_equal(found[2], value[2])


def test_arrays_of_python_2_are_read() -> None:
    raw = np.array([1.5, -2.5]).tobytes()
    start = b"cnumpy.core.multiarray\n_reconstruct\nq\x01(cnumpy\nndarray\nq\x02(K\x00tU\x01btRq\x03"
    dtype = b"cnumpy\ndtype\n(U\x02f8K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    state = b"(K\x01(K\x02t" + dtype + b"I00\nU" + bytes([len(raw)]) + raw + b"tb"
    found = read(b"\x80\x02" + b"(" + start + state + b"h\x03t.")
    assert found[0].tolist() == [1.5, -2.5]
    assert found[1] is found[0]


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_what_is_not_numbers_is_a_stand_in(protocol: int) -> None:
    values = [
        np.array([{}, None], dtype=object),
        np.zeros(2, dtype=[("a", "f4")]),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.ma.masked_array([1.0], [True]),
        datetime.datetime(2020, 1, 1),
        np.random.RandomState(0),
    ]
    for value in values:
        found = read(pickle.dumps([value, value], protocol))
        assert isinstance(found[0], StandIn), value
        assert found[1] is found[0]


def test_a_dtype_class_is_known() -> None:
    found = read(b"cnumpy._core.multiarray\nscalar\n(cnumpy.dtypes\nFloat32DType\n)RC\x04\x00\x00\x80?tR.")
    assert found == 1
    assert type(found) is np.float32


def _buffer(raw: bytes, code: bytes, shape: bytes) -> bytes:
    dtype = b"cnumpy\ndtype\n(S'" + code + b"'\ntR"
    return b"cnumpy.core.numeric\n_frombuffer\n(C" + bytes([len(raw)]) + raw + dtype + b"(" + shape + b"tS'C'\ntR."


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_buffer(bytes(8), b"f4", b"K\x03"), "expected 12 bytes of numbers, found 8"),
        (_buffer(bytes(8), b"f4", b"K\x01"), "expected 4 bytes of numbers, found 8"),
        (_buffer(bytes(8), b"f8", b"L99999999999999999999L\n"), "bytes of numbers, found 8"),
        (_buffer(b"\xff" * 4, b"U1", b"K\x01"), "expected letters, found the number 4294967295"),
    ],
)
def test_an_array_holds_exactly_its_numbers(data: bytes, message: str) -> None:
    with pytest.raises(NotACheckpointError, match=message):
        read(data)


@pytest.mark.parametrize("shape", [b"J\xff\xff\xff\xff", b"S'1'\n", b"N", b"K\x01" * 40])
def test_a_shape_that_is_none_makes_a_stand_in(shape: bytes) -> None:
    assert isinstance(read(_buffer(bytes(4), b"f4", shape)), StandIn)


@pytest.mark.parametrize("code", [b"O8", b"V4", b"M8", b"S0", b"U9999999", b"f3", b"i4,i4", b"f4\n", b"(2,)f4"])
def test_a_dtype_of_another_kind_makes_a_stand_in(code: bytes) -> None:
    data = _buffer(bytes(4), code.replace(b"\n", b"\\n"), b"K\x01")
    assert isinstance(read(data), StandIn)
