"""Checkpoints as .safetensors files: the tensors by name, everything else as JSON in the header's metadata.

Format: https://github.com/huggingface/safetensors#format. Other tools see only the weights; the golden samples are
stored in base64.
"""

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch

from simplenet.atomic import atomic_write
from simplenet.checkpoint.format_version import require_known_format
from simplenet.checkpoint.keys import (
    CLASSES,
    GOLDEN,
    INPUT_SHAPE,
    METADATA,
    MODEL_CONFIG,
    MODEL_STATE_DICT,
    OUTPUT,
    PREPROCESSING,
)
from simplenet.content_hash import tensor_bytes
from simplenet.errors import CheckpointError, NotACheckpointError, TruncatedCheckpointError

SUFFIX = ".safetensors"
_JSON_ENTRIES = (MODEL_CONFIG, METADATA, CLASSES, INPUT_SHAPE, PREPROCESSING, OUTPUT)
_MAX_HEADER = 100_000_000  # bytes; the format's own limit
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
}


def is_safetensors(start: bytes) -> bool:
    """Whether a file's first nine bytes are a safetensors header: its length, little-endian, then a brace."""
    return len(start) >= 9 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= _MAX_HEADER


def write_safetensors(checkpoint: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Save the weights, model_config, metadata, classes and golden samples, but no training state.

    Raises:
        CheckpointError: an entry is not JSON, or a tensor has a dtype that the format lacks.
    """
    entries = {key: checkpoint[key] for key in _JSON_ENTRIES if key in checkpoint}
    try:
        json.dumps(entries, allow_nan=False)  # orjson would write null for a NaN
        if GOLDEN in checkpoint:
            entries[GOLDEN] = {name: _pack(tensor) for name, tensor in checkpoint[GOLDEN].items()}
        metadata = {key: orjson.dumps(value).decode() for key, value in entries.items()}
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: the entries of a {SUFFIX} file must be plain JSON: {error}") from error
    tensors = checkpoint[MODEL_STATE_DICT]
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # so that all are aligned
    header = _header(names, tensors, metadata, str(path))
    # Not safetensors' own save_file: if killed, it leaves a temporary file behind.
    with atomic_write(path) as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for name in names:
            file.write(tensor_bytes(tensors[name]))


def _header(names: list[str], tensors: Mapping[str, torch.Tensor], metadata: dict[str, str], source: str) -> bytes:
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name in names:
        tensor = tensors[name]
        if tensor.dtype not in _DTYPES:
            raise CheckpointError(f"{source}: {name}: a {SUFFIX} file has no {tensor.dtype}; save it as .pt")
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = orjson.dumps(header)
    if len(text) > _MAX_HEADER - 8:
        raise CheckpointError(f"{source}: metadata and golden samples: expected at most {_MAX_HEADER} bytes as JSON")
    return text + b" " * (-len(text) % 8)


def read_safetensors(
    path: Path, device: str | torch.device, *, mapped: bool, source: str | None = None
) -> dict[str, Any]:
    """The checkpoint in the file, its tensors on `device`, or `mapped` from the file.

    Every entry of the header's metadata is kept: JSON is parsed, other programs' text stays text.

    Raises:
        TruncatedCheckpointError: the file ends too early.
        LaterFormatError: the checkpoint is of a later format than this version reads.
        NotACheckpointError: the header is damaged.
    """
    name = source or str(path)
    try:
        import safetensors  # here: a stock TorchServe does not have it, and archives hold .pt files
    except ImportError as error:
        raise CheckpointError(f"{name}: reading a {SUFFIX} file needs pip install safetensors") from error
    try:
        backend = "mmap" if mapped else "pread"
        with safetensors.safe_open(path, framework="pt", device=str(device), backend=backend) as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except safetensors.SafetensorError as error:
        truncated = ("incomplete metadata", "invalid header length")  # tensors, or a header, longer than the file
        kind = TruncatedCheckpointError if any(text in str(error) for text in truncated) else NotACheckpointError
        raise kind(f"{name}: not a complete .safetensors file: {error}; download or copy it again") from error
    try:
        entries = {key: _parsed(text) for key, text in header.items()}
        require_known_format(entries.get(METADATA), name)  # before the form of the golden samples matters
        if isinstance(entries.get(GOLDEN), dict):
            entries[GOLDEN] = {name: _unpack(packed) for name, packed in entries[GOLDEN].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise NotACheckpointError(
            f"{name}: the header's metadata is damaged: {error}; download or copy it again"
        ) from error
    return {MODEL_STATE_DICT: tensors, **entries}


def _parsed(text: str) -> Any:
    """An entry of the header's metadata: JSON as this library writes it, or another program's text."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _pack(tensor: torch.Tensor) -> dict[str, Any]:
    array = tensor.detach().cpu().numpy().astype("<f4")
    return {"shape": list(array.shape), "float32": base64.b64encode(array.tobytes()).decode()}


def _unpack(packed: dict[str, Any]) -> torch.Tensor:
    array = np.frombuffer(base64.b64decode(packed["float32"], validate=True), "<f4")
    return torch.from_numpy(array.reshape(packed["shape"]).copy())
