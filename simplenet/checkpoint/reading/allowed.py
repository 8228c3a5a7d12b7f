"""The names that a pickle may use, by exact module and name. Whatever is not here becomes a stand-in."""

from typing import Any

import torch

from simplenet.checkpoint.reading.arrays import ARRAYS
from simplenet.checkpoint.reading.building import Allowed
from simplenet.checkpoint.reading.plain import PLAIN
from simplenet.checkpoint.reading.tensors import TENSORS, StorageType

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "QInt8Storage": torch.qint8,
    "QInt32Storage": torch.qint32,
    "QUInt8Storage": torch.quint8,
    "QUInt4x2Storage": torch.quint4x2,
    "QUInt2x4Storage": torch.quint2x4,
    "UntypedStorage": torch.uint8,
    "_UntypedStorage": torch.uint8,  # its name in torch 1.11 and 1.12
}
_STORAGE_MODULES = ("torch", "torch.storage", "torch.cuda", "torch.xpu", "torch.hpu", "torch.mps", "torch.npu")
_CONSTANTS = (torch.dtype, torch.layout, torch.memory_format, torch.qscheme)

ALLOWED: dict[tuple[str, str], Any] = {
    **{name: Allowed(*name, rebuild) for name, rebuild in {**PLAIN, **ARRAYS, **TENSORS}.items()},
    **{
        (module, name): StorageType(module, name, dtype)
        for module in _STORAGE_MODULES
        for name, dtype in _STORAGES.items()
    },
    **{("torch", name): value for name, value in vars(torch).items() if isinstance(value, _CONSTANTS)},
}
