"""The content hash changes with the weights and with nothing else."""

import hashlib

import pytest
import torch

from simplenet.content_hash import content_hash, verify_hash
from simplenet.errors import CheckpointError, HashMismatchError

WEIGHTS = {"b": torch.arange(6, dtype=torch.float32).reshape(2, 3), "a": torch.tensor(True)}


def test_the_hash_is_that_of_the_documented_stream():
    stream = b'["a", "bool", []]\n\x01["b", "float32", [2, 3]]\n' + WEIGHTS["b"].numpy().astype("<f4").tobytes()
    assert content_hash(WEIGHTS) == hashlib.sha256(stream).hexdigest()


@pytest.mark.parametrize(
    "same",
    [
        dict(reversed(WEIGHTS.items())),
        {**WEIGHTS, "b": WEIGHTS["b"].T.contiguous().T},
        {**WEIGHTS, "b": WEIGHTS["b"].clone().requires_grad_()},
    ],
    ids=["order", "strides", "requires_grad"],
)
def test_the_hash_ignores_what_does_not_change_the_weights(same):
    assert content_hash(same) == content_hash(WEIGHTS)


def nudged(tensor: torch.Tensor) -> torch.Tensor:
    changed = tensor.clone()
    changed.view(torch.uint8)[-1, -1] ^= 1
    return changed


@pytest.mark.parametrize(
    "other",
    [
        {**WEIGHTS, "b": nudged(WEIGHTS["b"])},
        {**WEIGHTS, "b": WEIGHTS["b"].reshape(3, 2)},
        {**WEIGHTS, "b": WEIGHTS["b"].double()},
        {**WEIGHTS, "b": WEIGHTS["b"].view(torch.int32)},
        {"a": WEIGHTS["a"], "c": WEIGHTS["b"]},
        {**WEIGHTS, "c": torch.zeros(0)},
    ],
    ids=["one bit", "shape", "dtype", "same bytes as another dtype", "name", "an empty tensor more"],
)
def test_the_hash_changes_with_the_weights(other):
    assert content_hash(other) != content_hash(WEIGHTS)
    with pytest.raises(HashMismatchError, match="file: the weights are not the ones that were saved"):
        verify_hash(other, content_hash(WEIGHTS), "file")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int8])
def test_tensors_of_every_dtype_are_hashed(dtype):
    assert len(content_hash({"a": torch.ones(3).to(dtype)})) == 64


@pytest.mark.parametrize("entry", [torch.eye(2).to_sparse(), [1.0], "text"])
def test_what_is_no_dense_tensor_is_not_hashed(entry):
    with pytest.raises(CheckpointError, match=r"state_dict\['x'\]: expected a dense tensor"):
        content_hash({"x": entry})
