"""The content hash, which tells whether weights are the ones that were saved."""

import hashlib
import json
from collections.abc import Mapping

import torch

from simplenet.errors import CheckpointError, HashMismatchError
from simplenet.text import dtype_name


def content_hash(state_dict: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over every tensor's name, dtype, shape and raw bytes, in sorted order of the names.

    For each tensor: the JSON list `[name, dtype, shape]`, a newline, then the bytes in row-major order. The list
    fixes how many bytes follow, so no two different state_dicts feed the hash the same stream.

    Returns:
        64 hexadecimal digits.

    Raises:
        CheckpointError: an entry is not a dense tensor.

    Example:
        >>> content_hash({"bias": torch.zeros(2)})[:12]
        '6fc946aa1de6'
    """
    if not isinstance(state_dict, Mapping) or not all(isinstance(name, str) for name in state_dict):
        raise CheckpointError(f"state_dict: expected a dict of named tensors, found {type(state_dict).__name__}")
    digest = hashlib.sha256()
    for name in sorted(state_dict):
        tensor = state_dict[name]
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
            raise CheckpointError(f"state_dict[{name!r}]: expected a dense tensor, found {type(tensor).__name__}")
        dtype = dtype_name(tensor.dtype)
        digest.update(json.dumps([name, dtype, list(tensor.shape)]).encode() + b"\n")
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def tensor_bytes(tensor: torch.Tensor) -> memoryview:
    """The raw bytes of a dense tensor in row-major order: a view of its memory if it is contiguous and on the CPU.

    Example:
        >>> bytes(tensor_bytes(torch.tensor([1, 2], dtype=torch.int16)))
        b'\\x01\\x00\\x02\\x00'
    """
    dense = tensor.detach().cpu().contiguous()
    flat = dense.as_strided((dense.numel(),), (1,))  # not reshape: a single element may keep a stride of its own
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")


def verify_hash(state_dict: Mapping[str, torch.Tensor], expected: str, source: str) -> None:
    """Compare the weights with the hash they were saved with.

    Raises:
        HashMismatchError: they differ.
    """
    actual = content_hash(state_dict)
    if actual != expected:
        raise HashMismatchError(
            f"{source}: the weights are not the ones that were saved: content hash expected {expected[:12]}…, "
            f"found {actual[:12]}…; restore the file from its source"
        )
