"""Rows become what the network was trained on; its outputs become probabilities, whatever they are."""

import numpy as np
import pytest
import torch

from simplenet import preprocessing
from simplenet.errors import ConfigError, DataError, GoldenMismatchError, NotACheckpointError
from simplenet.preprocessing import (
    LOG_PROBABILITIES,
    LOGITS,
    OUTPUTS,
    PLAIN,
    PROBABILITIES,
    InputSpec,
    check_output,
    detect_output,
    output_of,
    probabilities,
)

ROWS = torch.rand(5, 12, generator=torch.Generator().manual_seed(1))
RAW = torch.randn(8, 6, generator=torch.Generator().manual_seed(2))


def test_rows_are_scaled_then_normalised_by_channel_in_their_shape():
    spec = InputSpec.of((3, 2, 2), {"scale": 2, "mean": [0.1, 0.2, 0.3], "std": [1, 2, 4]})
    prepared = spec.prepare(ROWS)
    assert prepared.shape == (5, 3, 2, 2)
    for channel, (mean, std) in enumerate(zip([0.1, 0.2, 0.3], [1, 2, 4], strict=True)):
        expected = (ROWS[:, 4 * channel : 4 * channel + 4] * 2 - mean) / std
        torch.testing.assert_close(prepared[:, channel].flatten(1), expected)


def test_a_flat_row_is_normalised_by_one_value_or_by_column():
    torch.testing.assert_close(InputSpec.of(None, {"mean": 0.5, "std": 0.25}).prepare(ROWS), (ROWS - 0.5) / 0.25)
    mean, std = ROWS.mean(0), ROWS.std(0)
    torch.testing.assert_close(InputSpec.of((12,), {"mean": mean, "std": std}).prepare(ROWS), (ROWS - mean) / std)


def test_preparing_leaves_the_rows_as_they_were():
    before = ROWS.clone()
    InputSpec.of((3, 4), {"scale": 3, "mean": 0.5}).prepare(ROWS)
    assert torch.equal(ROWS, before)


def test_half_precision_is_rounded_after_preparing():
    spec = InputSpec.of((12,), {"mean": 0.1307, "std": 0.3081})
    given = spec.for_network(ROWS, "cpu", torch.bfloat16)
    assert torch.equal(given, ((ROWS - 0.1307) / 0.3081).bfloat16())
    assert spec.for_network(ROWS, "cpu", torch.float64).dtype == torch.float64


def test_values_prepared_for_serving_serve_gradients_too():
    spec = InputSpec.of((3, 4), {"mean": [0.1, 0.2, 0.3], "std": [1.0, 2.0, 3.0]})
    with torch.inference_mode():
        spec.prepare(ROWS)
    rows = ROWS.clone().requires_grad_()
    spec.prepare(rows).sum().backward()
    torch.testing.assert_close(rows.grad[0], torch.tensor([1, 1 / 2, 1 / 3]).repeat_interleave(4))


@pytest.mark.parametrize(
    ("shape", "steps", "plain"),
    [
        (None, None, True),
        (None, {}, True),
        ((12,), {"scale": 1, "mean": [0, 0, 0][:1], "std": 1}, True),
        ((3, 4), None, False),
        (None, {"scale": 255}, False),
        (None, {"std": 0.5}, False),
    ],
)
def test_what_changes_nothing_is_plain_and_not_stored(shape, steps, plain):
    spec = InputSpec.of(shape, steps)
    assert spec.is_plain is plain
    assert ("preprocessing" in spec.entries()) is (not plain and shape is None)
    assert InputSpec.from_checkpoint(spec.entries(), "file") == spec


def test_every_friendly_spelling_is_stored_alike():
    spellings = [0.5, [0.5], (0.5,), np.float32(0.5), np.array([0.5]), torch.tensor(0.5)]
    specs = {InputSpec.of([1, 28, 28], {"mean": value, "std": value}) for value in spellings}
    (spec,) = specs
    assert spec.entries()["preprocessing"] == {"scale": 1.0, "mean": [0.5], "std": [0.5]}


@pytest.mark.parametrize(
    ("shape", "steps", "message"),
    [
        ("1,28,28", None, r"input_shape: expected whole numbers above 0, such as \(1, 28, 28\), found '1,28,28'"),
        (28, None, "input_shape: expected whole numbers"),
        ((), None, "input_shape: expected whole numbers"),
        ((1, 0), None, "input_shape: expected whole numbers"),
        ((1, True), None, "input_shape: expected whole numbers"),
        ((2**20, 2**20), None, "input_shape: expected at most 16777216 numbers in a row"),
        (None, [0.1, 0.2], "preprocessing: expected a dict, found list"),
        (None, {"sigma": 1}, "preprocessing: unknown step 'sigma'; expected 'scale', 'mean', 'std'"),
        (None, {"mean": "0.1"}, "preprocessing: mean: expected finite numbers, found '0.1'"),
        (None, {"mean": []}, "preprocessing: mean: expected finite numbers"),
        (None, {"std": [float("nan")]}, "preprocessing: std: expected finite numbers"),
        (None, {"std": 0}, "preprocessing: std: expected numbers above 0, found 0"),
        (None, {"scale": 0}, "preprocessing: scale: expected another number than 0, found 0"),
        (None, {"scale": [1, 2]}, "preprocessing: scale: expected one finite number"),
        (None, {"mean": [1, 2]}, r"preprocessing: mean: expected 1 number \(there is no input_shape\), found 2"),
        ((3, 2, 2), {"std": [1, 2]}, r"std: expected 1 number or 3 \(the first axis of input_shape\), found 2"),
        ((3, 2, 2), {"mean": [1, 2], "std": [1, 2, 3]}, r"mean: expected 1 number or 3 .*, found 2"),
    ],
)
def test_what_is_impossible_is_refused_in_one_line(shape, steps, message):
    with pytest.raises(ConfigError, match=message) as caught:
        InputSpec.of(shape, steps)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(NotACheckpointError, match=r"^file: "):
        InputSpec.from_checkpoint({"input_shape": shape, "preprocessing": steps}, "file")


def test_rows_of_another_size_are_refused():
    with pytest.raises(DataError, match=r"rows: expected shape \(n, 784\) .*found \(5, 12\)"):
        InputSpec.of((1, 28, 28)).prepare(ROWS)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_outputs_are_told_apart_and_give_the_same_probabilities(dtype):
    expected = RAW.softmax(1)
    forms = {LOGITS: RAW, LOG_PROBABILITIES: RAW.log_softmax(1), PROBABILITIES: expected}
    for word, outputs in forms.items():
        rounded = outputs.to(dtype)
        assert detect_output(rounded.float(), dtype)[0] == word
        check_output(rounded.float(), word, "file", dtype)
        torch.testing.assert_close(probabilities(rounded, word).float(), expected, atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 4.0])
def test_one_class_is_certain_in_any_case(value):
    outputs = torch.full((8, 1), value)
    assert detect_output(outputs)[0] == LOGITS
    assert probabilities(outputs, LOGITS).tolist() == [[1.0]] * 8


@pytest.mark.parametrize(
    ("outputs", "word"),
    [
        (RAW, PROBABILITIES),
        (RAW, LOG_PROBABILITIES),
        (RAW.softmax(1), LOG_PROBABILITIES),
        (RAW.softmax(1), LOGITS),  # softmax would be applied twice
        (RAW.log_softmax(1), PROBABILITIES),
        (RAW.sigmoid(), PROBABILITIES),
    ],
)
def test_a_wrong_statement_about_outputs_is_refused(outputs, word):
    with pytest.raises(GoldenMismatchError, match=f"file: output: stated as {word}, found ") as caught:
        check_output(outputs, word, "file")
    assert len(str(caught.value).splitlines()) == 1


def test_logarithms_of_probabilities_may_be_called_logits():
    check_output(RAW.log_softmax(1), LOGITS, "file")


def test_the_words_for_outputs():
    assert [output_of({"output": word}, "file") for word in OUTPUTS] == list(OUTPUTS)
    assert output_of({}, "file") == LOGITS
    assert PLAIN.is_plain
    for wrong in ("softmax", 3, None):
        with pytest.raises(NotACheckpointError, match="file: output: expected one of 'logits'"):
            output_of({"output": wrong}, "file")
    with pytest.raises(ConfigError, match="output: expected one of"):
        check_output(RAW, "softmax", "file")


def nest(depth=40):
    """A list that, written out, has 2**depth entries."""
    value = [1]
    for _ in range(depth):
        value = [value, value]
    return value


@pytest.mark.parametrize("value", [nest(), {"a": nest()}, "x" * 10**6])
def test_a_value_that_is_endless_when_written_out_gets_a_short_message(value):
    loop = [1]
    loop.append(loop)
    for entries in (
        {"input_shape": value},
        {"input_shape": [value]},
        {"preprocessing": {"mean": value}},
        {"preprocessing": {"std": [value]}},
        {"preprocessing": {"scale": loop}},
    ):
        with pytest.raises(NotACheckpointError, match=r"model\.pt: (input_shape|preprocessing)") as caught:
            InputSpec.from_checkpoint(entries, "model.pt")
        assert len(str(caught.value)) < 400
    with pytest.raises(NotACheckpointError, match="output: expected one of"):
        preprocessing.stated_output({"output": value}, "model.pt")


def test_numbers_beyond_a_float_and_shapes_of_many_axes_are_refused():
    with pytest.raises(ConfigError, match="mean: expected finite numbers"):
        InputSpec.of(None, {"mean": 10**400})
    with pytest.raises(ConfigError, match="at most 64 axes, found 1000"):
        InputSpec.of([1] * 1000)
    with pytest.raises(ConfigError, match="numbers in a row"):
        InputSpec.of([10**2000] * 60)
