"""Golden samples: recorded as the network predicts, replayed within a tolerance, refused where they disagree."""

import pytest
import torch
from torch import nn

from simplenet.errors import CheckpointError, GoldenMismatchError, NotACheckpointError
from simplenet.golden import _whole_float32, make_golden, random_rows, verify_golden
from simplenet.model import SimpleNet
from simplenet.preprocessing import LOG_PROBABILITIES, PROBABILITIES, InputSpec


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


STEPS = {"mean": 0.1307, "std": 0.3081}


def convolution() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 3), nn.LogSoftmax(1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_raw_rows_are_recorded_and_replayed_through_the_preprocessing(dtype):
    spec, rows = InputSpec.of((1, 8, 8), STEPS), random_rows(64)
    model = convolution().to(dtype)
    golden = make_golden(model, rows, spec)
    assert torch.equal(golden["inputs"], rows)
    expected = model(((rows - 0.1307) / 0.3081).reshape(-1, 1, 8, 8).to(dtype)).float()
    torch.testing.assert_close(golden["logits"], expected)
    assert verify_golden(model, golden, "file", spec, LOG_PROBABILITIES) == 0


@pytest.mark.parametrize(
    "changed",
    [
        InputSpec.of((1, 8, 8), {**STEPS, "mean": 0.1}),
        InputSpec.of((1, 8, 8), {**STEPS, "std": 0.3}),
        InputSpec.of((1, 8, 8), {**STEPS, "scale": 255}),
        InputSpec.of((1, 8, 8)),
        InputSpec.of((8, 8, 1), STEPS),
        InputSpec.of((1, 8, 9), STEPS),
        InputSpec.of(None, STEPS),
    ],
    ids=str,
)
def test_a_changed_preprocessing_or_shape_is_found(changed):
    spec, model = InputSpec.of((1, 8, 8), STEPS), convolution()
    golden = make_golden(model, random_rows(64), spec)
    with pytest.raises(GoldenMismatchError) as caught:
        verify_golden(model, golden, "file", changed, LOG_PROBABILITIES)
    assert str(caught.value).startswith("file: ")
    assert len(str(caught.value).splitlines()) == 1


def test_a_changed_output_is_found():
    spec, model = InputSpec.of((1, 8, 8)), convolution()
    golden = make_golden(model, random_rows(64), spec)
    with pytest.raises(GoldenMismatchError, match="stated as probabilities, found log_probabilities"):
        verify_golden(model, golden, "file", spec, PROBABILITIES)


def test_a_network_for_other_rows_is_told_to_name_the_shape():
    with pytest.raises(CheckpointError, match=r"cannot predict rows of shape \(8, 64\).*as input_shape"):
        make_golden(convolution(), random_rows(64))


def test_outputs_that_are_not_one_row_per_sample_are_not_recorded():
    with pytest.raises(CheckpointError, match=r"expected outputs of shape \(8, num_classes\), found \(8, 2, 2\)"):
        make_golden(nn.Sequential(nn.Linear(4, 4), nn.Unflatten(1, (2, 2))), random_rows(4))


@pytest.mark.parametrize(("device", "during"), [("cpu", True), ("cuda", False)])
def test_a_replay_on_a_gpu_is_in_all_of_float32_and_serving_as_before(device, during):
    with _whole_float32(torch.device(device)):
        assert torch.backends.cudnn.allow_tf32 is during
    assert torch.backends.cudnn.allow_tf32 is True


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_convolution_recorded_on_the_cpu_is_replayed_on_a_gpu():
    spec, model = InputSpec.of((1, 8, 8), STEPS), convolution()
    golden = make_golden(model, random_rows(64), spec)
    assert verify_golden(model.cuda(), golden, "file", spec, LOG_PROBABILITIES) < 1e-5
