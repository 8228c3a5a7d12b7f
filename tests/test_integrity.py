import hashlib

import pytest
import torch
from torch import nn

from simplenet.errors import CheckpointError, GoldenMismatchError, HashMismatchError, NotACheckpointError
from simplenet.integrity import content_hash, make_golden, random_rows, verify_golden, verify_hash
from simplenet.model import SimpleNet

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


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_an_unchanged_network_passes_in_every_dtype(dtype):
    model = SimpleNet(20, 50, 5).to(dtype)
    assert verify_golden(model, make_golden(model, random_rows(20)), "file") == 0


def test_recording_leaves_the_mode_of_the_network_and_answers_without_dropout():
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)).train()
    golden = make_golden(model, random_rows(4))
    assert model.training
    torch.testing.assert_close(golden["logits"], model[0](golden["inputs"]).detach())


def test_a_network_that_computes_something_else_is_refused():
    model = SimpleNet(20, 50, 5)
    golden = make_golden(model, random_rows(20))
    model.relu = nn.Identity()
    with pytest.raises(GoldenMismatchError, match="code and weights have drifted apart"):
        verify_golden(model, golden, "file")


def test_a_network_that_answers_nan_is_not_recorded_and_not_accepted():
    model = SimpleNet(4, 8, 3)
    golden = make_golden(model, random_rows(4))
    nn.init.constant_(model.fc2.bias, torch.nan)
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        make_golden(model, random_rows(4))
    with pytest.raises(GoldenMismatchError):
        verify_golden(model, golden, "file")


ROWS, LOGITS = torch.zeros(2, 4), torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("golden", "kind"),
    [
        (None, NotACheckpointError),
        ({}, NotACheckpointError),
        ({"inputs": ROWS, "logits": [0.0]}, NotACheckpointError),
        ({"inputs": ROWS, "logits": LOGITS[:1]}, NotACheckpointError),
        ({"inputs": ROWS[:0], "logits": LOGITS[:0]}, NotACheckpointError),
        ({"inputs": ROWS[0], "logits": LOGITS[0]}, NotACheckpointError),
        ({"inputs": ROWS, "logits": LOGITS[:, :2]}, GoldenMismatchError),
        ({"inputs": ROWS[:, :3], "logits": LOGITS}, GoldenMismatchError),
        ({"inputs": ROWS, "logits": LOGITS * torch.nan}, GoldenMismatchError),
    ],
)
def test_golden_samples_of_the_wrong_form_are_refused(golden, kind):
    with pytest.raises(kind) as caught:
        verify_golden(SimpleNet(4, 8, 3), golden, "file")
    assert str(caught.value).startswith("file: ")
    assert len(str(caught.value).splitlines()) == 1
