"""Repairing what lacks something, converting between formats, and refusing what is damaged."""

from collections import OrderedDict

import pytest
import torch

from simplenet.checkpoint import load_model_for_inference, save_checkpoint, save_for_inference
from simplenet.checkpoint.file import read_checkpoint, write_checkpoint
from simplenet.checkpoint.repair import repair
from simplenet.checkpoint.verify import require_whole
from simplenet.errors import (
    CheckpointError,
    GoldenMismatchError,
    HashMismatchError,
    KeyMismatchError,
)
from simplenet.inspection import describe
from simplenet.model import SimpleNet


@pytest.fixture
def model() -> SimpleNet:
    torch.manual_seed(3)
    return SimpleNet(12, 8, 3)


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_plain_state_dict_becomes_a_whole_checkpoint(model, tmp_path, prefix, suffix):
    source, target = tmp_path / "plain.pt", tmp_path / f"whole{suffix}"
    torch.save(OrderedDict((prefix + name, tensor) for name, tensor in model.state_dict().items()), source)
    before = source.read_bytes()
    with pytest.raises(CheckpointError, match="simplenet repair"):
        require_whole("plain.pt", describe(source).findings)
    repairs = repair(source, target)
    assert source.read_bytes() == before
    require_whole("whole", describe(target).findings)
    assert same(load_model_for_inference(target), model)
    assert read_checkpoint(target)["metadata"]["repairs"] == repairs
    assert any("model_config" in line for line in repairs)
    assert any("names" in line for line in repairs) == bool(prefix)


def test_converting_there_and_back_keeps_everything_but_the_training_state(model, tmp_path):
    optimizer = torch.optim.Adam(model.parameters())
    metadata = {"accuracy": 0.5, "nested": {"list": [1, "two"]}}
    save_checkpoint(model, optimizer, 3, 0.1, tmp_path / "a.pt", metadata=metadata, classes=["x", "y", "z"])
    first = repair(tmp_path / "a.pt", tmp_path / "b.safetensors")
    assert any("optimizer_state_dict" in line for line in first)
    second = repair(tmp_path / "b.safetensors", tmp_path / "c.pt")
    a, c = read_checkpoint(tmp_path / "a.pt"), read_checkpoint(tmp_path / "c.pt")
    assert c["metadata"]["content_hash"] == a["metadata"]["content_hash"]
    assert c["metadata"]["repairs"] == first + second
    assert {key: c["metadata"][key] for key in metadata} == metadata
    assert c["classes"] == ["x", "y", "z"]
    assert torch.equal(c["golden"]["logits"], a["golden"]["logits"])
    assert "optimizer_state_dict" not in c


def test_a_whole_checkpoint_needs_nothing_and_keeps_its_training_state(model, tmp_path):
    optimizer = torch.optim.Adam(model.parameters())
    save_checkpoint(model, optimizer, 3, 0.1, tmp_path / "a.pt")
    assert repair(tmp_path / "a.pt", tmp_path / "b.pt") == []
    assert read_checkpoint(tmp_path / "b.pt")["epoch"] == 3


def test_the_input_cannot_be_the_output(model, tmp_path):
    save_for_inference(model, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="another file than the input"):
        repair(tmp_path / "a.pt", tmp_path / "." / "a.pt")


def test_damaged_weights_are_not_blessed(model, tmp_path):
    save_for_inference(model, tmp_path / "a.pt")
    damaged = read_checkpoint(tmp_path / "a.pt")
    damaged["model_state_dict"]["fc1.bias"][0] += 1
    write_checkpoint(damaged, tmp_path / "a.pt")
    with pytest.raises(HashMismatchError):
        repair(tmp_path / "a.pt", tmp_path / "b.pt")
    del damaged["metadata"]["content_hash"]
    write_checkpoint(damaged, tmp_path / "a.pt")
    with pytest.raises(GoldenMismatchError):
        repair(tmp_path / "a.pt", tmp_path / "b.pt")
    assert not (tmp_path / "b.pt").exists()


def test_entries_of_another_kind_are_refused_or_replaced(model, tmp_path):
    save_for_inference(model, tmp_path / "a.pt", {"repairs": 3}, classes=list("xyz"))
    lines = repair(tmp_path / "a.pt", tmp_path / "b.safetensors")
    assert (
        read_checkpoint(tmp_path / "b.safetensors")["metadata"]["repairs"] == lines == ["converted .pt to .safetensors"]
    )
    write_checkpoint({**read_checkpoint(tmp_path / "a.pt"), "classes": 3}, tmp_path / "a.pt")
    (line,) = repair(tmp_path / "a.pt", tmp_path / "c.pt")
    assert line.startswith("classes: expected 3 class labels, found only their number")
    assert "classes" not in read_checkpoint(tmp_path / "c.pt")


def test_a_model_config_of_absurd_sizes_gives_way_to_the_shapes(model, tmp_path):
    absurd = {"input_size": 2**24, "hidden_size": 2**24, "num_classes": 3}  # a petabyte of weights
    write_checkpoint({"model_state_dict": model.state_dict(), "model_config": absurd}, tmp_path / "a.pt")
    assert "left aside" in repair(tmp_path / "a.pt", tmp_path / "b.pt")[0]
    assert read_checkpoint(tmp_path / "b.pt")["model_config"] == model.config.to_dict()


def test_weights_of_an_unknown_network_are_not_repaired(tmp_path):
    torch.save({"layer.weight": torch.zeros(3, 4)}, tmp_path / "a.pt")
    with pytest.raises(KeyMismatchError, match="not those of a SimpleNet"):
        repair(tmp_path / "a.pt", tmp_path / "b.pt")
