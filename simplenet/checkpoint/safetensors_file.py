"""Checkpoints as .safetensors files: the tensors by their names, everything else as JSON in the header's metadata.

Format: https://github.com/huggingface/safetensors#format. Other tools see the weights and nothing else; the golden
samples are bytes in base64.
"""

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import safetensors
import safetensors.torch
import torch

from simplenet.atomic import atomic_path
from simplenet.checkpoint.keys import CLASSES, GOLDEN, METADATA, MODEL_CONFIG, MODEL_STATE_DICT
from simplenet.errors import CheckpointError, NotACheckpointError, TruncatedCheckpointError

SUFFIX = ".safetensors"
_MAX_HEADER = 100_000_000  # bytes; the format's own limit


def is_safetensors(start: bytes) -> bool:
    """Whether a file's first nine bytes are a safetensors header: its length, little-endian, then a brace."""
    return len(start) >= 9 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= _MAX_HEADER


def write_safetensors(checkpoint: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Save the weights, model_config, metadata, classes and golden samples; a training state has no place here."""
    entries = {key: checkpoint[key] for key in (MODEL_CONFIG, METADATA, CLASSES) if key in checkpoint}
    if GOLDEN in checkpoint:
        entries[GOLDEN] = {name: _pack(tensor) for name, tensor in checkpoint[GOLDEN].items()}
    try:
        header = {key: orjson.dumps(value).decode() for key, value in entries.items()}
    except TypeError as error:
        raise CheckpointError(f"{path}: what a {SUFFIX} file keeps must be plain JSON: {error}") from error
    with atomic_path(path) as temporary:
        safetensors.torch.save_file(_untied(checkpoint[MODEL_STATE_DICT]), temporary, header)


def _untied(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Every tensor contiguous and on memory of its own: the format has no tied weights."""
    seen: set[int] = set()
    untied = {}
    for name, tensor in state_dict.items():
        own = tensor.detach().cpu().contiguous()
        untied[name] = own.clone() if own.untyped_storage().data_ptr() in seen else own
        seen.add(own.untyped_storage().data_ptr())
    return untied


def read_safetensors(path: Path, device: str | torch.device, *, mapped: bool) -> dict[str, Any]:
    """The checkpoint in the file, its tensors on `device`, or `mapped` from the file.

    Raises:
        TruncatedCheckpointError: the file ends too early.
        NotACheckpointError: the header is damaged.
    """
    try:
        with safetensors.safe_open(path, framework="pt", device=str(device)) as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            if not mapped:
                tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    except safetensors.SafetensorError as error:
        kind = TruncatedCheckpointError if "Incomplete" in str(error) else NotACheckpointError
        raise kind(f"{path}: not a whole .safetensors file: {error}") from error
    try:
        entries = {key: orjson.loads(header[key]) for key in (MODEL_CONFIG, METADATA, CLASSES, GOLDEN) if key in header}
        if GOLDEN in entries:
            entries[GOLDEN] = {name: _unpack(packed) for name, packed in entries[GOLDEN].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise NotACheckpointError(f"{path}: the header's metadata is damaged: {error}") from error
    return {MODEL_STATE_DICT: tensors, **entries}


def _pack(tensor: torch.Tensor) -> dict[str, Any]:
    array = tensor.detach().cpu().numpy().astype("<f4")
    return {"shape": list(array.shape), "float32": base64.b64encode(array.tobytes()).decode()}


def _unpack(packed: dict[str, Any]) -> torch.Tensor:
    array = np.frombuffer(base64.b64decode(packed["float32"], validate=True), "<f4")
    return torch.from_numpy(array.reshape(packed["shape"]).copy())
