"""NumPy's .npy and .npz, read without pickle, and no larger than the file says truly."""

import io
import lzma
import math
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from typing import IO, Any

import numpy as np

from simplenet.errors import NotACheckpointError, TruncatedCheckpointError, UnsafeCheckpointError
from simplenet.manifest import DAMAGED_ZIP, MAX_INFLATION
from simplenet.text import first_line

# What the standard library raises for a damaged container.
DAMAGED = (*DAMAGED_ZIP, tarfile.TarError, lzma.LZMAError, struct.error, OverflowError)
_SUFFIX = ".npy"
_FLOOR = 64 * 2**20  # bytes that a compressed .npz may unpack to, however small it is
_MAX_HEADER = 10_000  # bytes; NumPy's own limit for a header that is parsed as a Python literal

Array = np.ndarray[Any, Any]


def is_npz(names: Iterable[str]) -> bool:
    """Whether the members of a zip are those of a .npz.

    Example:
        >>> is_npz(["fc.weight.npy", "fc.bias.npy"]), is_npz(["model.pt"]), is_npz([])
        (True, False, False)
    """
    files = [name for name in names if not name.endswith("/")]
    return bool(files) and all(name.endswith(_SUFFIX) for name in files)


def read_npz(stream: IO[bytes], source: str) -> dict[str, Array]:
    """The arrays in a .npz, by name.

    Raises:
        UnsafeCheckpointError: one holds Python objects, which only pickle could read.
        TruncatedCheckpointError: the file is damaged or ends too early.
        NotACheckpointError: a member is no array, or unpacks to more than 64 MiB and 100 times the file's size.

    Example:
        >>> stream = io.BytesIO()
        >>> np.savez(stream, **{"fc.bias": np.zeros(2)})
        >>> read_npz(stream, "model.npz")
        {'fc.bias': array([0., 0.])}
    """
    limit = max(_FLOOR, MAX_INFLATION * stream.seek(0, io.SEEK_END))
    stream.seek(0)
    try:
        with zipfile.ZipFile(stream) as archive:
            members = [item for item in archive.infolist() if not item.is_dir()]
            unpacked = sum(item.file_size for item in members)
            if unpacked > limit:
                raise NotACheckpointError(
                    f"{source}: expected to unpack to at most {limit:,} bytes, found {unpacked:,}; "
                    "save it with numpy.savez instead of numpy.savez_compressed"
                )
            arrays = {}
            for item in members:
                with archive.open(item) as member:
                    name = item.filename.removesuffix(_SUFFIX)
                    arrays[name] = _read(member, item.file_size, f"{source}!{item.filename}")
            return arrays
    except DAMAGED as error:
        raise TruncatedCheckpointError(
            f"{source}: damaged, or ends too early: {first_line(error)}; copy or download it again"
        ) from error


def read_npy(stream: IO[bytes], source: str) -> Array:
    """The array in a .npy.

    Raises:
        UnsafeCheckpointError: it holds Python objects, which only pickle could read.
        TruncatedCheckpointError: there are fewer bytes than the header says.
        NotACheckpointError: the header is damaged.

    Example:
        >>> stream = io.BytesIO()
        >>> np.save(stream, np.zeros(2))
        >>> read_npy(stream, "bias.npy")
        array([0., 0.])
    """
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    return _read(stream, size, source)


def _read(stream: IO[bytes], size: int, source: str) -> Array:
    """The array in the next `size` bytes; the header is checked against them before memory is asked for."""
    try:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran_order, dtype = readers[version](stream, max_header_size=_MAX_HEADER)
        start = stream.tell()
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError):  # of the .npz around it
        raise
    except Exception as error:  # the header is a Python literal: a damaged one fails in many ways
        raise NotACheckpointError(
            f"{source}: expected a NumPy array of format 1 or 2, found none: {first_line(error)}"
        ) from error
    if dtype.hasobject:
        raise UnsafeCheckpointError(
            f"{source}: an array of Python objects, which only pickle can read, and was not loaded; "
            "save each array under its own name with numpy.savez(FILE, **arrays)"
        )
    expected = math.prod(shape) * dtype.itemsize
    if expected > size - start or any(dim < 0 for dim in shape):
        raise TruncatedCheckpointError(
            f"{source}: expected {expected:,} bytes of numbers for shape {shape}, found {size - start:,}"
        )
    data = stream.read(expected)
    if len(data) != expected:
        raise TruncatedCheckpointError(f"{source}: expected {expected:,} bytes of numbers, found {len(data):,}")
    try:
        return np.frombuffer(bytearray(data), dtype).reshape(shape, order="F" if fortran_order else "C")
    except (ValueError, OverflowError) as error:  # a shape of a 0 and a number beyond any index; a dtype of no bytes
        raise NotACheckpointError(f"{source}: expected an array of numbers, found {dtype} of shape {shape}") from error
