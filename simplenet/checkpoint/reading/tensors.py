"""Tensors, as torch.save and pickle write them: each argument is checked before anything is made from it.

A tensor comes out as a plain `torch.Tensor` that requires no gradient, whatever kind it was.
"""

import math
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from simplenet.checkpoint.reading.building import Builder, Rebuild
from simplenet.checkpoint.reading.refusal import Refused, Unfit
from simplenet.checkpoint.reading.stand_in import Global, StandIn

_LARGEST = (1 << 63) - 1
_MOST_AXES = 64
_DEVICE = re.compile(r"[a-z]{1,20}(:[0-9]{1,3})?", re.ASCII)
_QUANTIZED = (torch.qint8, torch.quint8, torch.qint32, torch.quint4x2, torch.quint2x4)
_COMPRESSED = (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)


class StorageType(Global):
    """A class of storages: the dtype of its numbers."""

    __slots__ = ("dtype",)

    def __init__(self, module: str, name: str, dtype: torch.dtype) -> None:
        super().__init__(module, name)
        self.dtype = dtype


class Storage(StandIn):
    """The numbers that tensors share; they are read when the first tensor needs them."""

    __slots__ = ("dtype", "load")

    def __init__(self, kind: StorageType, load: Callable[[], torch.UntypedStorage]) -> None:
        super().__init__(kind.module, kind.name)
        self.dtype = kind.dtype
        self.load = load


def strided(storage: Any, dtype: Any, offset: Any, size: Any, stride: Any) -> torch.Tensor:
    """The tensor of `dtype` and shape `size` in the storage, from element `offset` on.

    Raises:
        Unfit: an argument of another kind.
        Refused: it would have more elements than the storage holds, or ones outside it.
    """
    if not isinstance(storage, Storage) or type(dtype) is not torch.dtype or dtype in _QUANTIZED:
        raise Unfit
    if not isinstance(size, (tuple, list)) or not isinstance(stride, (tuple, list)) or len(size) != len(stride):
        raise Unfit
    last, count, steps = 0, 1, 1
    for length, step in zip(size, stride, strict=True):
        if type(length) is not int or type(step) is not int or not (0 <= length <= _LARGEST and 0 <= step <= _LARGEST):
            raise Refused(f"pickle: a tensor: expected a shape and strides, found {str(length)[:20]}, {str(step)[:20]}")
        last += (length - 1) * step
        count *= length
        steps *= length or 1
    if type(offset) is not int or not 0 <= offset <= _LARGEST or len(size) > _MOST_AXES or steps > _LARGEST:
        raise Refused(f"pickle: a tensor: expected a shape and an offset, found shape {str(tuple(size))[:80]}")
    numbers = storage.load()
    if count == 0:
        offset = 0  # a slice without elements may begin anywhere
    elif max(last + offset + 1, count) * dtype.itemsize > numbers.nbytes():
        raise Refused(
            f"pickle: a tensor of shape {str(tuple(size))[:80]}: expected {max(last + offset + 1, count)} elements of "
            f"{dtype.itemsize} bytes, found {numbers.nbytes()} bytes"
        )
    made: torch.Tensor = torch.empty((0,), dtype=dtype, device=numbers.device)
    made.set_(numbers, offset, tuple(size), tuple(stride))
    return made


def _with_bits(tensor: torch.Tensor, bits: Any) -> torch.Tensor:
    """The tensor, conjugated or negated lazily if that is how it was saved."""
    if not isinstance(bits, dict):
        return tensor
    if bits.get("conj") is True and tensor.is_complex():
        tensor = tensor.conj()
    if bits.get("neg") is True:
        tensor = torch._neg_view(tensor)
    return tensor


def _tensor(builder: Builder, args: tuple[Any, ...]) -> torch.Tensor:
    """Storage, offset, size, stride; in version 2 also gradient, hooks, bits."""
    if len(args) not in (4, 6, 7) or not isinstance(args[0], Storage):
        raise Unfit
    made = strided(args[0], args[0].dtype, *args[1:4])
    return _with_bits(made, args[6]) if len(args) == 7 else made


def _tensor_v3(builder: Builder, args: tuple[Any, ...]) -> torch.Tensor:
    """Storage, offset, size, stride, gradient, hooks, dtype, bits."""
    if len(args) not in (7, 8):
        raise Unfit
    made = strided(args[0], args[6], *args[1:4])
    return _with_bits(made, args[7]) if len(args) == 8 else made


def _parameter(builder: Builder, args: tuple[Any, ...]) -> torch.Tensor:
    """The tensor in a Parameter or Buffer; whether it required a gradient is dropped, as are its attributes."""
    if not 1 <= len(args) <= 4 or not isinstance(args[0], torch.Tensor):
        raise Unfit
    return args[0]


def _from_type(builder: Builder, args: tuple[Any, ...]) -> torch.Tensor:
    """A subclass of Tensor: function, class, arguments of the function, attributes."""
    if len(args) != 4 or not isinstance(args[0], Global) or args[0].name.startswith("_rebuild_from_type"):
        raise Unfit
    made = builder.call(args[0], args[2], {})
    if not isinstance(made, torch.Tensor):
        raise Unfit
    return made


def _sparse(builder: Builder, args: tuple[Any, ...]) -> Any:
    """Layout and data; the indices are validated when their numbers have been read."""
    if len(args) != 2 or type(args[1]) is not tuple:
        raise Unfit
    layout, data = args
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that compressed layouts are a beta
        if layout is torch.sparse_coo and len(data) in (3, 4):
            return _coordinates(builder, *data)
        if layout in _COMPRESSED and len(data) == 4:
            return _compressed(builder, layout, *data)
    raise Unfit


def _coordinates(builder: Builder, indices: Any, values: Any, size: Any, coalesced: Any = None) -> Any:
    _require_sparse_parts(size, indices, values)
    if coalesced is not None and type(coalesced) is not bool:
        raise Unfit

    def check() -> None:
        torch._validate_sparse_coo_tensor_args(indices, values, size, coalesced, check_pinning=False)

    builder.checks.append(check)
    return torch.sparse_coo_tensor(indices, values, size, check_invariants=False, is_coalesced=coalesced)


def _compressed(builder: Builder, layout: torch.layout, starts: Any, indices: Any, values: Any, size: Any) -> Any:
    _require_sparse_parts(size, starts, indices, values)

    def check() -> None:
        torch._validate_sparse_compressed_tensor_args(starts, indices, values, size, layout, check_pinning=False)

    builder.checks.append(check)
    return torch.sparse_compressed_tensor(starts, indices, values, size, layout=layout, check_invariants=False)


def _require_sparse_parts(size: Any, *parts: Any) -> None:
    _size(size)
    if not all(isinstance(part, torch.Tensor) and part.layout == torch.strided for part in parts):
        raise Unfit


def _size(size: Any) -> torch.Size:
    if not isinstance(size, (tuple, list)) or len(size) > _MOST_AXES:
        raise Unfit
    if not all(type(length) is int and 0 <= length <= _LARGEST for length in size) or math.prod(size) > _LARGEST:
        raise Unfit
    return torch.Size(size)


def _from_numpy(builder: Builder, args: tuple[Any, ...]) -> torch.Tensor:
    """A tensor of a device without storages (XLA, say): array or tensor, dtype, device, gradient."""
    if len(args) != 4 or type(args[1]) is not torch.dtype or not isinstance(args[0], (np.ndarray, torch.Tensor)):
        raise Unfit
    data, dtype = args[:2]
    if isinstance(data, torch.Tensor):
        if data.dtype != dtype:
            raise Unfit  # it is written from a tensor of the same dtype
        return data
    if data.dtype.kind not in "biufc" or not data.dtype.isnative or dtype in _QUANTIZED:
        raise Unfit
    builder.budget.spend(data.size * (data.itemsize + dtype.itemsize))
    return torch.from_numpy(data.copy()).to(dtype=dtype, device=builder.device)


def _device(builder: Builder, args: tuple[Any, ...]) -> torch.device:
    match args:
        case (str() as name,) if _DEVICE.fullmatch(name):
            return _known_device(name)
        case (str() as kind, int() as index) if _DEVICE.fullmatch(kind) and 0 <= index < 128 and ":" not in kind:
            return _known_device(f"{kind}:{index}")
        case _:
            raise Unfit


def _known_device(name: str) -> torch.device:
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise Unfit from error


def _layout(builder: Builder, args: tuple[Any, ...]) -> torch.layout:
    known = {str(layout): layout for layout in (torch.strided, torch.sparse_coo, *_COMPRESSED)}
    if len(args) != 1 or type(args[0]) is not str or args[0] not in known:
        raise Unfit
    return known[args[0]]


def _load_from_bytes(builder: Builder, args: tuple[Any, ...]) -> Any:
    """A storage that pickle.dump wrote: a torch file of its own."""
    if len(args) != 1 or type(args[0]) is not bytes:
        raise Unfit
    builder.budget.spend(len(args[0]))
    return builder.nested(args[0])


TENSORS: dict[tuple[str, str], Rebuild] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_v3,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._utils", "_rebuild_sparse_tensor"): _sparse,
    ("torch._utils", "_rebuild_device_tensor_from_numpy"): _from_numpy,
    ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"): _from_numpy,
    ("torch._utils", "_rebuild_xla_tensor"): _from_numpy,
    ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
    ("torch.tensor", "_rebuild_from_type_v2"): _from_type,  # its module in torch 1.7 and 1.8
    ("torch.nn.parameter", "Parameter"): _parameter,
    ("torch.nn.parameter", "Buffer"): _parameter,
    ("torch.storage", "_load_from_bytes"): _load_from_bytes,
    ("torch.serialization", "_get_layout"): _layout,
    ("torch", "Size"): lambda builder, args: _size(*args) if len(args) == 1 else _unfit(),
    ("torch", "device"): _device,
}


def _unfit() -> Any:
    raise Unfit
