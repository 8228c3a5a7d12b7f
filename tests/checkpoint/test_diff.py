"""What differs between two files: fields, labels and, weight by weight, how far they moved."""

import math
from dataclasses import astuple
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from simplenet.archive import create_archive
from simplenet.checkpoint import save_for_inference
from simplenet.checkpoint.diff import FieldChange, diff
from simplenet.checkpoint.file import read_checkpoint, write_checkpoint
from simplenet.cli.verbs import app
from simplenet.errors import HashMismatchError
from simplenet.model import SimpleNet

SAME = ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]


def command(*arguments: str | Path) -> str:
    finished = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"}, catch_exceptions=False)
    assert finished.exit_code == 0
    return finished.output


def test_one_changed_weight_is_the_only_difference_and_exact(model, saved, tmp_path):
    weight = model.fc1.weight.detach().clone().double()
    with torch.no_grad():
        model.fc1.weight[2, 3] += 0.5
    save_for_inference(model, tmp_path / "second.pt", {"accuracy": 0.95, "note": "more"}, classes=["a", "b", "d"])
    comparison = diff(saved, tmp_path / "second.pt")
    largest = abs(float(model.fc1.weight[2, 3].detach().double() - weight[2, 3]))
    assert set(comparison.layers) == {"fc1.weight"}
    assert comparison.layers["fc1.weight"].to_dict() == {
        "change": "moved",
        "shape": [4, 6],
        "dtype": "float32",
        "distance": pytest.approx(largest / math.sqrt(sum(x * x for x in weight.flatten().tolist())), rel=1e-12),
        "largest": largest,
        "changed": 1 / 24,
    }
    assert comparison.same == tuple(SAME[1:])
    assert comparison.model_config == {}
    assert comparison.classes == FieldChange(["a", "b", "c"], ["a", "b", "d"])
    assert comparison.metadata["accuracy"] == FieldChange(0.9, 0.95)
    assert comparison.metadata["note"] == FieldChange(b="more")
    assert comparison.metadata.keys() - {"timestamp"} == {"accuracy", "note", "content_hash"}


def test_a_file_does_not_differ_from_itself(saved, tmp_path):
    write_checkpoint(read_checkpoint(saved), tmp_path / "copy.safetensors")
    expected = {"model_config": {}, "metadata": {}, "classes": {}, "layers": {}}
    for other in (saved, tmp_path / "copy.safetensors"):
        found = diff(saved, other).to_dict()
        assert set(found.pop("same")) == set(SAME)
        assert found == expected


def test_an_archive_is_compared_by_the_checkpoint_in_it(saved, tmp_path):
    assert diff(saved, create_archive(saved, export_path=tmp_path)).layers == {}


def test_layers_of_other_shapes_and_in_one_file_only_are_said_so(model, tmp_path):
    first = {name: tensor for name, tensor in model.state_dict().items() if name != "fc2.bias"}
    second = {**SimpleNet(6, 4, 5).state_dict(), "extra": torch.zeros(2, dtype=torch.int64)}
    second["fc1.weight"] = first["fc1.weight"].to(torch.bfloat16)
    second["fc1.bias"] = first["fc1.bias"]
    torch.save(first, tmp_path / "a.pt")
    torch.save(second, tmp_path / "b.pt")
    comparison = diff(tmp_path / "a.pt", tmp_path / "b.pt")
    layers = comparison.to_dict()["layers"]
    assert comparison.same == ("fc1.bias",)
    assert layers["fc2.weight"] == {"change": "reshaped", "shape": [[3, 4], [5, 4]], "dtype": "float32"}
    assert layers["fc2.bias"] == {"change": "only in b", "shape": [5], "dtype": "float32"}
    assert layers["extra"] == {"change": "only in b", "shape": [2], "dtype": "int64"}
    assert layers["fc1.weight"]["dtype"] == ["float32", "bfloat16"]
    assert 0 < layers["fc1.weight"]["distance"] < 2**-8
    assert diff(tmp_path / "b.pt", tmp_path / "a.pt").layers["extra"].change == "only in a"
    printed = command("diff", tmp_path / "a.pt", tmp_path / "b.pt")
    assert "[3, 4] → [5, 4]" in printed
    assert "4 layers differ, 1 are the same" in printed


def test_a_config_of_another_size_is_a_difference(saved, tmp_path):
    save_for_inference(SimpleNet(6, 5, 3), tmp_path / "wide.pt")
    assert diff(saved, tmp_path / "wide.pt").model_config == {"hidden_size": FieldChange(4, 5)}


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0.0, 0.0], [0.0, 2.0], (math.inf, 2.0, 0.5)),
        ([math.nan, 3.0, 4.0], [math.nan, 3.0, 4.0], None),
        ([True, False], [True, True], (1.0, 1.0, 0.5)),
        ([3 + 4j], [3 + 5j], (0.2, 1.0, 1.0)),
        ([], [], None),
    ],
    ids=["from zeros", "NaN in one place", "bool", "complex", "empty"],
)
def test_the_distance_of_unusual_weights(tmp_path, a, b, expected):
    for name, values in (("a.pt", a), ("b.pt", b)):
        torch.save({"w": torch.tensor(values)}, tmp_path / name)
    layer = diff(tmp_path / "a.pt", tmp_path / "b.pt").layers.get("w")
    assert (layer and astuple(layer.movement)) == expected


def test_a_weight_that_becomes_nan_is_a_change_of_nan(tmp_path):
    torch.save({"w": torch.ones(2)}, tmp_path / "a.pt")
    torch.save({"w": torch.tensor([math.nan, 1.0])}, tmp_path / "b.pt")
    movement = diff(tmp_path / "a.pt", tmp_path / "b.pt").layers["w"].movement
    assert math.isnan(movement.distance)
    assert math.isnan(movement.largest)
    assert movement.changed == 0.5


def test_weights_larger_than_a_chunk_are_compared_to_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("simplenet.checkpoint.diff._CHUNK", 3)
    torch.save({"w": torch.ones(8)}, tmp_path / "a.pt")
    torch.save({"w": torch.tensor([1.0, 3, 1, 1, 1, 1, 1, 0])}, tmp_path / "b.pt")
    movement = diff(tmp_path / "a.pt", tmp_path / "b.pt").layers["w"].movement
    assert (movement.largest, movement.changed) == (2.0, 0.25)
    assert movement.distance == pytest.approx(math.sqrt(5 / 8))


def test_spoilt_weights_are_not_compared(saved, tmp_path):
    checkpoint = read_checkpoint(saved)
    checkpoint["model_state_dict"]["fc2.bias"][0] += 1
    write_checkpoint(checkpoint, tmp_path / "spoilt.pt")
    with pytest.raises(HashMismatchError, match=r"spoilt\.pt"):
        diff(saved, tmp_path / "spoilt.pt")


def test_a_config_that_is_endless_when_written_out_is_left_aside(tmp_path):
    nest = {"a": 1}
    for _ in range(40):
        nest = {"a": nest, "b": nest}
    loop = {"lr": 0.1}
    loop["self"] = loop
    for name, rate in (("first", 0.1), ("second", 0.2)):
        config = {"input_size": 4, "rate": rate, "nest": nest, "loop": loop}
        torch.save({"model_state_dict": {"w": torch.ones(2, 2)}, "model_config": config}, tmp_path / f"{name}.pt")
    comparison = diff(tmp_path / "first.pt", tmp_path / "second.pt")
    assert comparison.model_config == {"rate": FieldChange(0.1, 0.2)}
