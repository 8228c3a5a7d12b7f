"""What a checkpoint says about rows and outputs: kept in every format, corrected on demand, never changed unseen."""

import orjson
import pytest
import torch
from own_networks import COLOUR_NET, MNIST_NET, MNIST_SHAPE, MNIST_STEPS, written
from torch import nn
from typer.testing import CliRunner

from simplenet.checkpoint import load_model_for_inference, save_for_inference
from simplenet.checkpoint.certify import certify
from simplenet.checkpoint.file import read_checkpoint, write_checkpoint
from simplenet.checkpoint.repair import repair
from simplenet.checkpoint.save import inference_checkpoint
from simplenet.checkpoint.served import replay, restated
from simplenet.cli.verbs import app
from simplenet.errors import CheckpointError, ConfigError, GoldenMismatchError, HashMismatchError, NotACheckpointError
from simplenet.inspection import describe
from simplenet.model import SimpleNet
from simplenet.preprocessing import INPUT_SHAPE, OUTPUT, PREPROCESSING, InputSpec

SAID = (INPUT_SHAPE, PREPROCESSING, OUTPUT)
STEPS = {"scale": 2.0, "mean": [0.5], "std": [0.25]}


@pytest.fixture
def network():
    torch.manual_seed(1)
    return SimpleNet(6, 8, 3)


def test_a_file_of_either_form_keeps_what_it_says_and_a_plain_one_says_nothing(network, tmp_path):
    for suffix in (".pt", ".safetensors"):
        path = tmp_path / f"said{suffix}"
        save_for_inference(network, path, input_shape=[6], preprocessing={"scale": 2, "mean": 0.5, "std": 0.25})
        checkpoint = read_checkpoint(path)
        assert [checkpoint.get(key) for key in SAID] == [[6], STEPS, None]
        rows = checkpoint["golden"]["inputs"]
        logits = load_model_for_inference(path)(InputSpec.from_checkpoint(checkpoint, "file").prepare(rows))
        torch.testing.assert_close(logits, checkpoint["golden"]["logits"])
        described = describe(path)
        assert (described.input_shape, described.preprocessing, described.output) == ([6], STEPS, "logits")
    save_for_inference(network, tmp_path / "plain.pt")
    plain = read_checkpoint(tmp_path / "plain.pt")
    assert not {*SAID} & {*plain}
    assert "served_hash" not in plain["metadata"]


def test_a_network_without_constructor_arguments_is_saved_inspected_and_certified(tmp_path):
    module, network = written(tmp_path, MNIST_NET, "Net")
    path = tmp_path / "mnist_cnn.pt"
    save_for_inference(network(), path, input_shape=MNIST_SHAPE, preprocessing=MNIST_STEPS)
    printed = CliRunner().invoke(app, ["inspect", str(path), "--json"])
    entries = orjson.loads(printed.output)
    assert (entries["input_shape"], entries["output"]) == ([1, 28, 28], "log_probabilities")
    assert entries["preprocessing"] == {"scale": 1.0, **MNIST_STEPS}
    certificate = certify(path, network)
    assert all(row.probability_error < 0.02 for row in certificate.rows)
    assert all(row.relative_error < 1e-4 for row in certificate.rows if row.dtype == "float32")
    assert module.is_file()


def test_a_registered_network_is_replayed_with_its_preprocessing_and_repair_keeps_it(network, tmp_path):
    save_for_inference(network, tmp_path / "a.pt", preprocessing=STEPS)
    assert repair(tmp_path / "a.pt", tmp_path / "b.safetensors") == ["converted .pt to .safetensors"]
    kept = read_checkpoint(tmp_path / "b.safetensors")
    assert kept["preprocessing"] == STEPS
    assert describe(tmp_path / "b.safetensors").golden.startswith("8 samples agree")
    kept["preprocessing"] = {**STEPS, "mean": [0.6]}
    write_checkpoint(kept, tmp_path / "c.pt")
    with pytest.raises(GoldenMismatchError, match="or the preprocessing was changed"):
        describe(tmp_path / "c.pt")
    kept["preprocessing"] = {**STEPS, "mean": [0.5000001]}
    with pytest.raises(HashMismatchError, match="file: input_shape, preprocessing or output: expected SHA-256"):
        replay(network, kept, "file")


def test_loaded_metadata_is_saved_again_with_other_rows(network):
    first = inference_checkpoint(network, preprocessing=STEPS)
    again = inference_checkpoint(network, first["metadata"])
    assert replay(network, again, "file") == 0


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        (INPUT_SHAPE, "1x28x28", "file: input_shape: expected whole numbers"),
        (PREPROCESSING, {"std": [0]}, "file: preprocessing: std: expected numbers above 0"),
        (OUTPUT, "softmax", "file: output: expected one of 'logits'"),
    ],
)
def test_an_impossible_entry_is_refused(network, entry, value, message):
    with pytest.raises(NotACheckpointError, match=message):
        replay(network, {**inference_checkpoint(network), entry: value}, "file")


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"output": "softmax"}, ConfigError, "output: expected one of 'logits', 'log_probabilities', 'probabilities'"),
        ({"output": "probabilities"}, GoldenMismatchError, "SimpleNet: output: stated as probabilities, found logits"),
        (
            {"input_shape": (2, 3)},
            CheckpointError,
            r"SimpleNet: cannot predict rows of shape \(8, 2, 3\): RuntimeError",
        ),
        ({"input_shape": (2, -3)}, ConfigError, "input_shape: expected whole numbers above 0"),
        ({"preprocessing": {"std": 0}}, ConfigError, "preprocessing: std: expected numbers above 0"),
    ],
)
def test_what_does_not_fit_the_network_is_not_saved(network, tmp_path, arguments, kind, message):
    with pytest.raises(kind, match=message) as caught:
        save_for_inference(network, tmp_path / "x.pt", **arguments)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "x.pt").exists()


def test_golden_rows_may_be_given_in_their_shape(tmp_path):
    network = written(tmp_path, COLOUR_NET, "ColourNet")[1]()
    rows = torch.rand(2, 3, 4, 5)
    saved = inference_checkpoint(network, model_config={}, golden_inputs=rows, input_shape=(3, 4, 5))
    assert torch.equal(saved["golden"]["inputs"], rows.flatten(1))
    assert saved["output"] == "probabilities"


def test_a_restatement_changes_what_is_given_and_records_golden_samples_anew(network):
    before = inference_checkpoint(network, {"accuracy": 0.5, "certificate": {}}, preprocessing=STEPS)
    assert restated(before, network, "file", preprocessing={"scale": 2}) == (before, [])
    after, changes = restated(before, network, "file", preprocessing={"mean": 0.4}, input_shape=[6])
    assert after["preprocessing"] == {**STEPS, "mean": [0.4]}
    assert changes == [
        "input_shape [6] instead of none",
        f"preprocessing {after['preprocessing']} instead of {STEPS}",
        "left out the certificate, which measured other inputs",
        "golden samples recorded anew",
    ]
    assert "certificate" not in after["metadata"]
    assert after["metadata"]["accuracy"] == 0.5
    assert torch.equal(after["golden"]["inputs"], before["golden"]["inputs"])
    assert replay(network, after, "file") == 0


def test_a_restated_shape_of_another_size_has_golden_samples_of_that_size(tmp_path):
    network = written(tmp_path, COLOUR_NET, "ColourNet")[1]()
    before = inference_checkpoint(network, model_config={}, input_shape=(3, 4, 5))
    after, _ = restated(before, network, "file", input_shape=(3, 8, 8))
    assert after["golden"]["inputs"].shape == (8, 192)


def test_a_network_of_one_class_is_saved(tmp_path):
    save_for_inference(nn.Sequential(nn.Linear(4, 1)), tmp_path / "one.pt", model_config={"input_size": 4})
    assert OUTPUT not in read_checkpoint(tmp_path / "one.pt")
