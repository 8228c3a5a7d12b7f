"""NumPy's arrays, scalars and dtypes, under the names of NumPy 1 and 2."""

import math
import re
from typing import Any

import numpy as np

from simplenet.checkpoint.reading.building import Builder, Rebuild, Unfinished
from simplenet.checkpoint.reading.literals import Python2Text
from simplenet.checkpoint.reading.refusal import Refused, Unfit
from simplenet.checkpoint.reading.stand_in import Global

_MOST_AXES = 32
_MOST_LETTERS = 1 << 20
_LAST_LETTER = 0x10FFFF
# Numbers and text: no objects, no records, no dates.
_CODE = re.compile(r"[<>=|]?(b1|[iu][1248]|f2|f4|f8|f16|c8|c16|c32|[SU][1-9][0-9]{0,6})", re.ASCII)


class DType(Unfinished):
    """A dtype, of which BUILD gives the byte order; `dtype` is None for one that arrays here cannot have."""

    __slots__ = ("dtype",)

    def __init__(self, args: tuple[Any, ...], dtype: "np.dtype[Any] | None") -> None:
        super().__init__("numpy", "dtype", args)
        self.dtype = dtype

    def finish(self, builder: Builder, state: Any) -> Any:
        """Take the byte order; the state is version, order, subtype, names, fields, size, alignment, flags."""
        if type(state) is not tuple or len(state) < 5 or state[2:5] != (None, None, None):
            self.dtype = None
        elif self.dtype is not None and state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])
        self.state = state
        return self


class PendingArray(Unfinished):
    """An array whose shape, dtype and numbers BUILD gives."""

    __slots__ = ()

    def finish(self, builder: Builder, state: Any) -> Any:
        """The array of the state: version, shape, dtype, whether in Fortran's order, numbers."""
        if type(state) is not tuple or len(state) not in (4, 5):
            raise Unfit
        shape, dtype, fortran, raw = state[-4:]
        return _array(builder, shape, dtype, "F" if fortran is True or fortran == 1 else "C", raw)


def _array(builder: Builder, shape: Any, dtype: Any, order: str, raw: Any) -> "np.ndarray[Any, Any]":
    """An array with its own memory, in this machine's byte order.

    Raises:
        Unfit: a dtype, or numbers, of another kind.
        Refused: more or fewer numbers than the shape has.
    """
    if not isinstance(dtype, DType) or dtype.dtype is None or type(shape) is not tuple or order not in ("C", "F"):
        raise Unfit
    if len(shape) > _MOST_AXES or not all(type(length) is int and length >= 0 for length in shape):
        raise Unfit
    if isinstance(raw, str):  # of Python 2
        raw = raw.raw if isinstance(raw, Python2Text) else raw.encode("latin-1")
    if type(raw) not in (bytes, bytearray):
        raise Unfit
    expected = math.prod(shape) * dtype.dtype.itemsize
    if expected != len(raw):
        raise Refused(f"pickle: an array: expected {expected} bytes of numbers, found {len(raw)}")
    builder.budget.spend(len(raw))
    if dtype.dtype.kind == "U" and raw:
        letters = np.frombuffer(raw, np.dtype(np.uint32).newbyteorder(dtype.dtype.byteorder))
        if letters.max() > _LAST_LETTER:
            raise Refused(f"pickle: an array of text: expected letters, found the number {letters.max()}")
    held = raw or bytes(dtype.dtype.itemsize)  # an array of no elements wants a buffer as well
    found: np.ndarray[Any, Any] = np.ndarray(shape, dtype.dtype, held, order="F" if order == "F" else "C")
    return found.astype(dtype.dtype.newbyteorder("="), order="K")


def _dtype(builder: Builder, args: tuple[Any, ...]) -> DType:
    code = args[0] if args else None
    if not isinstance(code, str):
        raise Unfit
    if not _CODE.fullmatch(code) or (code[-2:] != "b1" and int(code.lstrip("<>=|bfiucSU")) > _MOST_LETTERS):
        return DType(args, None)
    try:
        return DType(args, np.dtype(code))
    except TypeError:  # this machine has no numbers of that size
        return DType(args, None)


def _dtype_of_class(dtype: "np.dtype[Any]") -> Rebuild:
    return lambda builder, args: DType(args, dtype)


def _reconstruct(builder: Builder, args: tuple[Any, ...]) -> PendingArray:
    match args:
        case (Global(module="numpy", name="ndarray"), tuple(), bytes() | str()):
            return PendingArray("numpy", "ndarray", args)
        case _:
            raise Unfit


def _scalar(builder: Builder, args: tuple[Any, ...]) -> Any:
    if len(args) != 2:
        raise Unfit
    return _array(builder, (), args[0], "C", args[1])[()]


def _from_buffer(builder: Builder, args: tuple[Any, ...]) -> "np.ndarray[Any, Any]":
    match args:
        case (raw, dtype, shape, str() as order):
            return _array(builder, shape, dtype, order, raw)
        case _:
            raise Unfit


_CORES = ("numpy.core", "numpy._core")
_CLASSES = {type(np.dtype(code)).__name__: np.dtype(code) for code in "?bBhHiIlLqQefdFD"}
ARRAYS: dict[tuple[str, str], Rebuild] = {
    ("numpy", "dtype"): _dtype,
    **{(f"{core}.multiarray", "_reconstruct"): _reconstruct for core in _CORES},
    **{(f"{core}.multiarray", "scalar"): _scalar for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): _from_buffer for core in _CORES},
    **{("numpy.dtypes", name): _dtype_of_class(dtype) for name, dtype in _CLASSES.items()},
}
