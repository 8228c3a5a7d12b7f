"""NumPy files are read without pickle; a header that claims more than there is allocates nothing."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from simplenet.checkpoint.reading import numpy_files
from simplenet.checkpoint.reading.numpy_files import read_npy, read_npz
from simplenet.errors import NotACheckpointError, TruncatedCheckpointError, UnsafeCheckpointError


def npy(array: "np.ndarray") -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(**members: bytes) -> io.BytesIO:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return stream


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "array", [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.ones((2, 3), ">f2")), np.float32(3), np.zeros((0, 4))]
)
def test_arrays_are_read(save: object, array: "np.ndarray") -> None:
    stream = io.BytesIO()
    save(stream, **{"fc.weight": array})  # type: ignore[operator]
    read = read_npz(stream, "m.npz")
    assert list(read) == ["fc.weight"]
    np.testing.assert_array_equal(read["fc.weight"], array)
    assert read["fc.weight"].flags.writeable
    np.testing.assert_array_equal(read_npy(io.BytesIO(npy(array)), "m.npy"), array)


def test_an_array_of_objects_is_refused_in_one_line() -> None:
    data = npy(np.array([{"weight": 1}], dtype=object))
    with pytest.raises(UnsafeCheckpointError, match=r"m\.npz!w\.npy: an array of Python objects, which only pickle"):
        read_npz(npz(w=data), "m.npz")
    with pytest.raises(UnsafeCheckpointError, match=r"m\.npy: an array of Python objects"):
        read_npy(io.BytesIO(data), "m.npy")


def test_a_header_that_claims_more_than_there_is_allocates_nothing() -> None:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (2**21, 2**15)})
    data = stream.getvalue()
    tracemalloc.start()
    with pytest.raises(TruncatedCheckpointError, match=r"m\.npy"):
        read_npy(io.BytesIO(data), "m.npy")
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


@pytest.mark.parametrize(("descr", "shape"), [("<f8", (0, 10**30)), ("|S0", (3,)), ("|V0", (0,))])
def test_an_impossible_shape_or_dtype_is_refused(descr: str, shape: tuple[int, ...]) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    with pytest.raises(NotACheckpointError, match=r"m\.npy: expected an array of numbers, found"):
        read_npy(stream, "m.npy")


def test_fewer_bytes_than_the_shape_needs() -> None:
    data = npy(np.zeros((2, 3)))[:-8]
    with pytest.raises(TruncatedCheckpointError, match=r"expected 48 bytes of numbers for shape \(2, 3\), found 40"):
        read_npy(io.BytesIO(data), "m.npy")


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\x05\x00{oops", b"hello", b"\x93NUMPY\x09\x00"])
def test_what_is_no_array_is_refused(data: bytes) -> None:
    with pytest.raises(NotACheckpointError, match=r"m\.npz!w\.npy: expected a NumPy array"):
        read_npz(npz(w=data), "m.npz")


def test_a_damaged_or_cut_off_file_is_refused() -> None:
    whole = npz(w=npy(np.random.default_rng(0).random(100))).getvalue()
    damaged = whole[:150] + bytes(100) + whole[250:]
    for data in (whole[:-30], damaged, b"PK\x03\x04"):
        with pytest.raises(TruncatedCheckpointError, match=r"m\.npz: damaged, or ends too early"):
            read_npz(io.BytesIO(data), "m.npz")


def test_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_files, "_FLOOR", 1000)
    with pytest.raises(NotACheckpointError, match="expected to unpack to at most"):
        read_npz(npz(w=npy(np.zeros(1_000_000))), "m.npz")
