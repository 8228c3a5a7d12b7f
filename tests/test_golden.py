"""Golden samples: recorded as the network predicts, replayed within a tolerance, refused where they disagree."""

import pytest
import torch
from torch import nn

from simplenet.errors import CheckpointError, GoldenMismatchError, NotACheckpointError
from simplenet.golden import make_golden, random_rows, verify_golden
from simplenet.model import SimpleNet


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_an_unchanged_network_passes_in_every_dtype(dtype):
    model = SimpleNet(20, 50, 5).to(dtype)
    assert verify_golden(model, make_golden(model, random_rows(20)), "file") == 0


def test_recording_leaves_the_mode_of_the_network_and_has_no_dropout():
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


def test_a_network_that_gives_nan_is_not_recorded_and_not_accepted():
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
