"""Numbers of every form become usable tensors, or are refused in a line that names the tensor and what to do."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from simplenet.checkpoint.adoption import dtypes
from simplenet.checkpoint.adoption.dtypes import require_finite, usable
from simplenet.errors import CheckpointError


def test_what_is_usable_stays_the_same_object() -> None:
    shared = torch.ones(3, 2)
    stored = {"a.weight": shared, "b.weight": shared.t(), "n.num_batches_tracked": torch.tensor(3)}
    tensors, notes = usable(stored, "m.pt")
    assert notes == []
    assert all(tensors[name] is stored[name] for name in stored)


def test_parameters_become_plain_tensors_that_share_their_memory() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    tensor = usable({"weight": weight}, "m.pt")[0]["weight"]
    assert type(tensor) is torch.Tensor
    assert not tensor.requires_grad
    assert tensor.data_ptr() == weight.data_ptr()


@pytest.mark.parametrize(
    ("found", "widest"),
    [
        ((torch.float16, torch.float32), torch.float32),
        ((torch.float16, torch.bfloat16), torch.float32),
        ((torch.float64, torch.bfloat16, torch.float16), torch.float64),
    ],
)
def test_mixed_dtypes_become_the_widest(found: tuple[torch.dtype, ...], widest: torch.dtype) -> None:
    stored = {f"{n}.weight": torch.ones(2, dtype=dtype) for n, dtype in enumerate(found)}
    tensors, notes = usable({**stored, "count": torch.tensor(1)}, "m.pt")
    assert {tensors[name].dtype for name in stored} == {widest}
    assert tensors["count"].dtype == torch.int64
    assert notes[0].endswith(f"cast to {str(widest).removeprefix('torch.')}")
    assert all(stored[f"{n}.weight"].dtype == dtype for n, dtype in enumerate(found))


def test_one_half_dtype_is_kept() -> None:
    assert usable({"weight": torch.ones(2, dtype=torch.bfloat16)}, "m.pt")[0]["weight"].dtype == torch.bfloat16


@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr])
def test_sparse_weights_become_dense(layout: torch.layout) -> None:
    dense = torch.eye(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sparse = dense.to_sparse(layout=layout, blocksize=(2, 2) if layout == torch.sparse_bsr else None)
        tensors, notes = usable({"fc.weight": sparse}, "m.pt")
    assert torch.equal(tensors["fc.weight"], dense)
    assert notes == ["fc.weight: sparse, made dense"]


def test_a_sparse_weight_that_is_huge_when_dense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dtypes, "MAX_DENSE", 1000)
    with pytest.raises(CheckpointError, match=r"m\.pt: fc\.weight: sparse, and 10,000 bytes when dense"):
        usable({"fc.weight": torch.zeros(50, 50).to_sparse()}, "m.pt")


def test_a_sparse_weight_with_indices_outside_its_shape_is_refused() -> None:
    sparse = torch.sparse_coo_tensor([[7], [7]], [1.0], (2, 2), check_invariants=False)
    with pytest.raises(CheckpointError, match=r"m\.pt: fc\.weight: a damaged sparse_coo tensor"):
        usable({"fc.weight": sparse}, "m.pt")


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", ">f2", ">f8", "<i8", ">i4", "?", "u1", "longdouble"])
def test_arrays_become_tensors(dtype: str) -> None:
    array = np.array([1, 0, 1]).astype(dtype)
    tensor = usable({"w": array}, "m.npz")[0]["w"]
    assert tensor.tolist() == array.tolist()
    assert tensor.dtype.is_floating_point == (array.dtype.kind == "f")


def test_arrays_that_are_read_only_or_reversed_and_numbers_become_tensors() -> None:
    fixed = np.ones((2, 2), np.float32)
    fixed.setflags(write=False)
    stored = {"a": fixed, "b": np.arange(3.0, dtype="f4")[::-1], "c": np.float32(2), "d": np.int64(3), "e": 4, "f": 0.5}
    tensors, notes = usable(stored, "m.pkl")
    assert notes == []
    assert [tensor.tolist() for tensor in tensors.values()] == [[[1, 1], [1, 1]], [2, 1, 0], 2, 3, 4, 0.5]


def test_integer_buffers_and_masks_are_left() -> None:
    stored = {
        "bn.num_batches_tracked": torch.tensor(7),
        "attn.relative_position_index": torch.zeros(4, 4, dtype=torch.int64),
        "h.0.attn.bias": torch.ones(1, 1, 4, 4, dtype=torch.uint8),
        "attn.bias": torch.ones(1, 1, 4, 4, dtype=torch.bool),
        "position_ids": torch.zeros(1, 4, dtype=torch.int32),
        "fc.weight_mask": torch.ones(2, 2, dtype=torch.bool),
        "attn_mask": torch.full((2, 2), float("-inf")),
    }
    tensors, notes = usable(stored, "m.pt")
    assert notes == []
    assert all(tensors[name] is stored[name] for name in stored)


def quantized() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8)


REFUSED: dict[str, tuple[str, Any, str, str]] = {
    "float8": ("fc.weight", torch.ones(2, 2).to(torch.float8_e4m3fn), "float8_e4m3fn", "* scale"),
    "int8": ("fc.weight", torch.ones(2, 2, dtype=torch.int8), "int8", "quantized from"),
    "uint8": ("fc.weight", torch.ones(2, 2, dtype=torch.uint8), "uint8", "quantized from"),
    "packed int32": ("fc.qweight", torch.ones(2, 2, dtype=torch.int32), "int32", "quantized from"),
    "int8 of another name": ("fc.packed", torch.ones(2, 2, dtype=torch.int8), "int8", "quantized from"),
    "int64": ("fc.bias", torch.ones(2, dtype=torch.int64), "int64", "quantized from"),
    "qint8": ("fc.weight", quantized(), "qint8", "dequantize()"),
    "complex": ("fc.weight", torch.ones(2, dtype=torch.complex64), "complex64", "two weights"),
    "complex array": ("fc.weight", np.ones(2, "c8"), "complex64", "two weights"),
    "meta": ("fc.weight", torch.ones(2, device="meta"), "meta device", "after the weights are loaded"),
    "bool": ("fc.weight", torch.ones(2, 2, dtype=torch.bool), "bool", ".to(torch.float32)"),
    "NaN": ("fc.weight", torch.tensor([1.0, float("nan")]), "NaN", "earlier checkpoint"),
    "inf": ("bn.running_var", torch.tensor([1.0, float("inf")]), "infinite numbers", "earlier checkpoint"),
    "lazy": ("fc.weight", nn.LazyLinear(2).weight, "lazy parameter", "on one batch"),
    "object array": ("fc.weight", np.array([None]), "object", "astype('float32')"),
    "text": ("fc.weight", "three", "found str", "state_dict()"),
    "a huge int": ("fc.weight", 10**30, "found int", "state_dict()"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_usable_is_refused_in_one_line(kind: str) -> None:
    name, value, found, remedy = REFUSED[kind]
    with pytest.raises(CheckpointError) as refusal:
        require_finite(usable({"a.weight": torch.ones(2), name: value}, "m.pt")[0], "m.pt")
    message = str(refusal.value)
    assert message.startswith(f"m.pt: {name}: ")
    assert found in message
    assert remedy in message
    assert "\n" not in message


def test_a_negative_or_conjugate_view_becomes_its_numbers():
    stored = torch.tensor([[1.0, 2.0]])
    (found,) = usable({"w": torch._neg_view(stored)}, "m.pt")[0].values()
    assert not found.is_neg()
    assert found.tolist() == [[-1.0, -2.0]]
    with pytest.raises(CheckpointError, match="complex64 numbers"):
        usable({"w": torch.ones(2, dtype=torch.complex64).conj()}, "m.pt")
