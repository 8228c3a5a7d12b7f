"""Make the numbers of a state_dict usable: dense tensors of one floating dtype, or one line that says why not."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from simplenet.errors import CheckpointError
from simplenet.text import dtype_name

MAX_DENSE = 2**31  # bytes of one sparse tensor once it is dense: a file of a few bytes may claim any shape
_WEIGHT_NAMES = ("weight", "bias", "kernel")
_FLOAT_ONE = "hand over the float checkpoint that it was quantized from"


def usable(state_dict: Mapping[str, Any], source: str) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The weights as plain dense tensors, floating ones in one dtype, and a line for each change of numbers' form.

    Args:
        state_dict: tensors, parameters, NumPy arrays and numbers by name; not changed. A tensor that is usable as it
            is stays the same object; non-contiguous tensors and ones that share memory are left so.
        source: the file's name in messages.

    Raises:
        CheckpointError: names the first tensor that cannot be used, and what to do: float8, quantized or integer
            weights, complex or boolean ones, tensors without numbers, NaN and infinite numbers.

    Example:
        >>> stored = {"fc.weight": np.ones((1, 2), ">f4"), "fc.bias": torch.ones(1, dtype=torch.float16)}
        >>> usable(stored, "model.npz")
        ({'fc.weight': tensor([[1., 1.]]), 'fc.bias': tensor([1.])}, ['float16, float32: cast to float32'])
    """
    tensors: dict[str, torch.Tensor] = {}
    notes: list[str] = []
    for name, value in state_dict.items():
        tensor = _tensor(value, f"{source}: {name}")
        _require_numbers(name, tensor, f"{source}: {name}")
        if tensor.layout != torch.strided:
            tensor = _dense(tensor, f"{source}: {name}")
            notes.append(f"{name}: sparse, made dense")
        tensors[name] = tensor
    dtypes = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    if len(dtypes) > 1:
        widest = _widest(dtypes)
        notes.append(f"{', '.join(sorted(map(dtype_name, dtypes)))}: cast to {dtype_name(widest)}")
        tensors = {name: t.to(widest) if t.is_floating_point() else t for name, t in tensors.items()}
    return tensors, notes


def _widest(dtypes: set[torch.dtype]) -> torch.dtype:
    """The dtype that holds the numbers of all of them: float32 for float16 with bfloat16."""
    first, *others = dtypes
    for dtype in others:
        first = torch.promote_types(first, dtype)
    return first


def _tensor(value: object, where: str) -> torch.Tensor:
    """The value as a tensor that needs no gradient; the same object if it is one."""
    if isinstance(value, torch.Tensor):
        if torch.nn.parameter.is_lazy(value):
            raise CheckpointError(
                f"{where}: a lazy parameter without a shape; run the network on one batch, and save it after that"
            )
        value = value if type(value) is torch.Tensor and not value.requires_grad else value.detach()
        # A view that is negative or conjugate by a flag has other bytes in memory than its numbers.
        return value.resolve_conj().resolve_neg() if value.is_neg() or value.is_conj() else value
    if isinstance(value, (np.ndarray, np.generic)):
        return _from_numpy(np.asarray(value), where)
    if isinstance(value, (bool, int, float)) and -(2**63) <= value < 2**63:
        return torch.tensor(value, dtype=torch.float32 if isinstance(value, float) else None)
    raise CheckpointError(
        f"{where}: expected a tensor, found {type(value).__name__}; save model.state_dict() and nothing else with it"
    )


def _from_numpy(array: "np.ndarray[Any, Any]", where: str) -> torch.Tensor:
    if array.dtype.name == "bfloat16":  # of the package ml_dtypes: JAX's
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:  # long double
        array = array.astype(np.float64)
    if array.dtype.kind not in "fiubc":
        raise CheckpointError(
            f"{where}: expected an array of numbers, found dtype {array.dtype.name}; save it with .astype('float32')"
        )
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()
    return torch.from_numpy(array)


def _require_numbers(name: str, tensor: torch.Tensor, where: str) -> None:
    """Refuse what is no plain number: what was quantized, and what the networks here do not compute with."""
    short = dtype_name(tensor.dtype)
    if tensor.is_quantized:
        raise CheckpointError(f"{where}: quantized to {short}; {_FLOAT_ONE}, or save it with .dequantize()")
    if tensor.is_meta:
        raise CheckpointError(
            f"{where}: a tensor on the meta device, without numbers; save the state_dict after the weights are loaded"
        )
    if tensor.is_floating_point() and tensor.element_size() == 1:
        raise CheckpointError(
            f"{where}: {short}, whose scale is stored apart; save weight.to(torch.float32) * scale in its place"
        )
    if tensor.is_complex():
        raise CheckpointError(
            f"{where}: {short} numbers; the network must be real: save the real and the imaginary part as two weights"
        )
    if not tensor.is_floating_point() and _is_weight(name, tensor):
        if tensor.dtype == torch.bool:
            raise CheckpointError(
                f"{where}: expected floating-point weights, found bool; save it with .to(torch.float32)"
            )
        raise CheckpointError(f"{where}: expected floating-point weights, found {short}: quantized; {_FLOAT_ONE}")


def _is_weight(name: str, tensor: torch.Tensor) -> bool:
    """Whether a tensor of integers stands where a weight should: not a count, an index or an attention mask."""
    last = name.rpartition(".")[2]
    if tensor.ndim == 0 or last.endswith("mask"):
        return False
    if last.endswith("bias"):  # GPT-2 keeps a mask (1, 1, n, n) under this name
        return tensor.ndim == 1
    return last.endswith(_WEIGHT_NAMES) or (tensor.ndim >= 2 and (tensor.dtype == torch.int8 or "weight" in last))


def _dense(tensor: torch.Tensor, where: str) -> torch.Tensor:
    """The dense form, once its indices are checked: torch trusts them."""
    if (size := math.prod(tensor.shape) * tensor.element_size()) > MAX_DENSE:
        raise CheckpointError(
            f"{where}: sparse, and {size:,} bytes when dense; expected at most {MAX_DENSE:,}: save a smaller layer"
        )
    try:
        if tensor.layout == torch.sparse_coo:
            parts = tensor._indices(), tensor._values()
            return torch.sparse_coo_tensor(*parts, tensor.shape, check_invariants=True).to_dense()
        by_row = tensor.layout in (torch.sparse_csr, torch.sparse_bsr)
        outer = tensor.crow_indices() if by_row else tensor.ccol_indices()
        inner = tensor.col_indices() if by_row else tensor.row_indices()
        return torch.sparse_compressed_tensor(
            outer, inner, tensor.values(), tensor.shape, layout=tensor.layout, check_invariants=True
        ).to_dense()
    except (RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{where}: a damaged {dtype_name(tensor.layout)} tensor; save it again after .to_dense()"
        ) from error


def require_finite(state_dict: Mapping[str, torch.Tensor], source: str) -> None:
    """Refuse NaN anywhere, and infinite numbers except in a mask, whose -inf hides positions.

    Raises:
        CheckpointError: names the first weight that is not finite.

    Example:
        >>> require_finite({"fc1.bias": torch.zeros(2)}, "model.pt")
    """
    for name, tensor in state_dict.items():
        # A sum takes a twentieth of the time of isfinite; it may overflow, so it only says which weights to look at.
        if tensor.is_floating_point() and not torch.isfinite(tensor.sum()):
            _require_finite(name, tensor, f"{source}: {name}")


def _require_finite(name: str, tensor: torch.Tensor, where: str) -> None:
    if bool(torch.isfinite(tensor).all()):
        return
    if bool(torch.isnan(tensor).any()):
        found = "NaN"
    elif "mask" in name.rpartition(".")[2]:
        return
    else:
        found = "infinite numbers"
    raise CheckpointError(
        f"{where}: expected finite numbers, found {found}: training diverged, or a cast overflowed; "
        "hand over an earlier checkpoint"
    )
