import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from bad_requests import RunsCode
from torch import nn

from simplenet.checkpoint import inference_checkpoint, load_model_for_inference, restore, save_for_inference
from simplenet.checkpoint.file import read_checkpoint, write_checkpoint
from simplenet.content_hash import content_hash
from simplenet.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    ConfigError,
    GoldenMismatchError,
    HashMismatchError,
    KeyMismatchError,
    NotACheckpointError,
    ShapeMismatchError,
    SimpleNetError,
    TruncatedCheckpointError,
)
from simplenet.golden import random_rows
from simplenet.model import SimpleNet


@pytest.fixture
def model() -> SimpleNet:
    torch.manual_seed(0)
    return SimpleNet(12, 8, 3)


@pytest.fixture
def saved(model, tmp_path):
    path = tmp_path / "net.pt"
    save_for_inference(model, path, {"accuracy": 0.9}, classes=["a", "b", "c"])
    return path


def refused(path, kind) -> str:
    """The message of loading `path`: one line, of exactly this kind, with the path in it."""
    with pytest.raises(kind) as caught:
        load_model_for_inference(path)
    assert type(caught.value) is kind
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert str(path) in message
    return message


def test_a_saved_network_is_rebuilt_in_eval_mode_with_the_same_answers(model, saved):
    loaded = load_model_for_inference(str(saved))
    assert not loaded.training
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    rows = torch.randn(5, 12)
    assert torch.equal(loaded(rows), model(rows))


def test_a_checkpoint_says_what_it_holds(saved, model):
    checkpoint = read_checkpoint(saved)
    assert checkpoint["model_config"] == {"input_size": 12, "hidden_size": 8, "num_classes": 3}
    assert checkpoint["classes"] == ["a", "b", "c"]
    assert checkpoint["golden"]["inputs"].shape == (8, 12)
    metadata = checkpoint["metadata"]
    assert metadata["content_hash"] == content_hash(model.state_dict())
    assert metadata["pytorch_version"] == torch.__version__
    assert (metadata["accuracy"], metadata["format_version"]) == (0.9, 1)


def test_real_rows_may_be_the_golden_samples(model, tmp_path):
    rows = torch.randn(3, 12)
    save_for_inference(model, tmp_path / "net.pt", golden_inputs=rows)
    assert torch.equal(read_checkpoint(tmp_path / "net.pt")["golden"]["inputs"], rows)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_the_dtype_of_the_weights_is_kept(model, tmp_path, dtype):
    save_for_inference(model.to(dtype), tmp_path / "net.pt")
    assert load_model_for_inference(tmp_path / "net.pt").fc1.weight.dtype == dtype


def test_saving_leaves_the_network_as_it_was(model, tmp_path):
    model.train()
    save_for_inference(model, tmp_path / "net.pt")
    assert model.training
    assert model.fc1.weight.requires_grad


def test_numpy_and_torch_scalars_in_metadata_become_plain_numbers(model, tmp_path):
    save_for_inference(model, tmp_path / "net.pt", {"a": np.float32(0.5), "b": torch.tensor(2), "c": [(1, None)]})
    metadata = read_checkpoint(tmp_path / "net.pt")["metadata"]
    assert (metadata["a"], metadata["b"], metadata["c"]) == (0.5, 2, [(1, None)])


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"metadata": {"a": [object()]}}, CheckpointError, r"metadata\['a'\]\[0\]: expected plain data .*found object"),
        ({"metadata": {"a": torch.zeros(2)}}, CheckpointError, r"metadata\['a'\]: expected plain data .*found Tensor"),
        ({"metadata": {(object(),): 1}}, CheckpointError, "metadata key"),
        ({"classes": ["a"]}, CheckpointError, "classes: expected 3 labels, found 1"),
        ({"model_config": {"n": 1}}, ConfigError, "no 'input_size' to make golden samples of; pass golden_inputs="),
    ],
)
def test_what_cannot_be_stored_is_refused_and_nothing_is_written(model, tmp_path, arguments, kind, message):
    with pytest.raises(kind, match=message):
        save_for_inference(model, tmp_path / "net.pt", **arguments)
    assert not list(tmp_path.iterdir())


def test_one_flipped_bit_of_a_weight_is_found(saved):
    contents = bytearray(saved.read_bytes())
    weight = read_checkpoint(saved)["model_state_dict"]["fc1.weight"].numpy().tobytes()
    contents[contents.index(weight) + 5] ^= 1
    saved.write_bytes(contents)
    assert "archive/data/0: damaged: expected CRC-32" in refused(saved, HashMismatchError)


def test_a_weight_that_was_changed_and_saved_again_is_found(saved):
    checkpoint = read_checkpoint(saved)
    checkpoint["model_state_dict"]["fc1.weight"][0, 0] += 1
    write_checkpoint(checkpoint, saved)
    assert "content hash expected" in refused(saved, HashMismatchError)


def tampered(saved, **changes: object):
    """Rewrite the checkpoint with other entries; those that are None are left out; the hash is made to fit."""
    checkpoint = {**read_checkpoint(saved), **changes}
    state_dict = checkpoint["model_state_dict"]
    if isinstance(state_dict, dict):
        checkpoint["metadata"] = {**checkpoint["metadata"], "content_hash": content_hash(state_dict)}
    write_checkpoint({name: value for name, value in checkpoint.items() if value is not None}, saved)
    return saved


SIZES = {"input_size": 12, "hidden_size": 8, "num_classes": 3}


@pytest.mark.parametrize(
    ("config", "kind", "message"),
    [
        ({**SIZES, "hidden_size": 9}, ShapeMismatchError, r"fc1.weight: expected shape \(9, 12\).*found \(8, 12\)"),
        ({**SIZES, "num_classes": 4}, ShapeMismatchError, r"fc2.weight: expected shape \(4, 8\)"),
        ({"input_size": 2**24, "hidden_size": 2**24, "num_classes": 3}, ShapeMismatchError, "fc1.weight: expected"),
    ],
)
def test_a_model_config_that_does_not_fit_the_weights_is_refused(saved, config, kind, message):
    with pytest.raises(kind, match=message):
        load_model_for_inference(tampered(saved, model_config=config))


@pytest.mark.parametrize("config", [{**SIZES, "depth": 2}, {}, [], "x", {**SIZES, "architecture": "Other"}])
def test_a_model_config_that_builds_nothing_is_refused(saved, config):
    with pytest.raises((ConfigError, NotACheckpointError)):
        load_model_for_inference(tampered(saved, model_config=config))


@pytest.mark.parametrize(
    ("key", "lack"), [("model_config", "model_config"), ("metadata", "content hash"), ("golden", "golden samples")]
)
def test_a_missing_key_is_made_and_named_or_refused_if_strict(saved, model, key, lack, caplog):
    checkpoint = read_checkpoint(saved)
    del checkpoint[key]
    write_checkpoint(checkpoint, saved)
    assert torch.equal(load_model_for_inference(saved).fc1.weight, model.fc1.weight)
    assert any(f"no {lack} in {saved}" in message for message in caplog.messages)
    with pytest.raises(NotACheckpointError, match=f"--strict: no {lack}"):
        load_model_for_inference(saved, strict=True)


def test_missing_weights_are_named(saved):
    checkpoint = read_checkpoint(saved)
    del checkpoint["model_state_dict"]
    write_checkpoint(checkpoint, saved)
    message = refused(saved, NotACheckpointError)
    assert "expected the weights of a network" in message
    assert "'classes', " in message


@pytest.mark.parametrize("key", ["model_state_dict", "model_config", "golden", "classes"])
@pytest.mark.parametrize("value", [3, "text", [], {}, [1, 2], {"a": 1}, {1: 2}, torch.zeros(3)], ids=repr)
def test_an_entry_of_another_kind_is_refused(saved, key, value):
    checkpoint = {**read_checkpoint(saved), key: value}
    write_checkpoint(checkpoint, saved)
    with pytest.raises(SimpleNetError) as caught:
        load_model_for_inference(saved)
    assert len(str(caught.value).splitlines()) == 1


def test_missing_and_unexpected_weights_are_named(saved):
    weights = read_checkpoint(saved)["model_state_dict"]
    weights["extra"] = weights.pop("fc2.bias")
    message = refused(tampered(saved, model_state_dict=dict(weights)), KeyMismatchError)
    assert "missing 'fc2.bias'; unexpected 'extra'" in message


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_weights_that_are_no_real_numbers_are_refused(saved, dtype):
    weights = {name: tensor.to(dtype) for name, tensor in read_checkpoint(saved)["model_state_dict"].items()}
    with pytest.raises(CheckpointError) as caught:
        load_model_for_inference(tampered(saved, model_state_dict=weights))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("width", [11, 13])
def test_golden_samples_of_another_width_are_refused(saved, width):
    golden = {"inputs": random_rows(width), "logits": torch.zeros(8, 3)}
    refused(tampered(saved, golden=golden), GoldenMismatchError)


def test_golden_samples_that_disagree_are_refused(saved):
    golden = read_checkpoint(saved)["golden"]
    golden["logits"] = golden["logits"].flip(0)
    assert "drifted apart" in refused(tampered(saved, golden=golden), GoldenMismatchError)


def test_the_weights_of_a_pickled_network_are_taken_and_it_is_said(model, tmp_path, caplog):
    torch.save(model, tmp_path / "whole.pt")
    assert torch.equal(load_model_for_inference(tmp_path / "whole.pt").fc1.weight, model.fc1.weight)
    assert any("a pickled network (simplenet.model.SimpleNet)" in message for message in caplog.messages)


@pytest.mark.parametrize("form", ["zip", "legacy", "plain pickle", "old protocol", "nested"])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path, form):
    marker, path = tmp_path / "marker", tmp_path / "evil.pt"
    evil = RunsCode(str(marker))
    if form in ("plain pickle", "old protocol"):
        path.write_bytes(pickle.dumps(evil, protocol=2 if form == "old protocol" else 5))
    else:
        contents = {"model_state_dict": {"w": torch.zeros(2), "x": evil}} if form == "nested" else evil
        torch.save(contents, path, _use_new_zipfile_serialization=form != "legacy")
    with pytest.raises(CheckpointError) as caught:
        load_model_for_inference(path)
    assert not marker.exists()
    assert len(str(caught.value).splitlines()) == 1
    pickle.loads(pickle.dumps(evil))
    assert marker.exists()  # so the pickle would have run


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_truncated_file_is_refused(saved, share, legacy):
    if legacy:
        torch.save(dict(read_checkpoint(saved)), saved, _use_new_zipfile_serialization=False)
    contents = saved.read_bytes()
    saved.write_bytes(contents[: int(len(contents) * share)])
    with pytest.raises((TruncatedCheckpointError, NotACheckpointError)) as caught:
        load_model_for_inference(saved)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"hello, world", "found plain text: 'hello, world'"),
        (b"\x80\x02N.", ""),
        (b"\x80\x02}.", ""),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, contents, message):
    (tmp_path / "x.pt").write_bytes(contents)
    assert message in refused(tmp_path / "x.pt", NotACheckpointError)


def test_what_is_no_dict_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    assert "found a list of 2" in refused(tmp_path / "list.pt", NotACheckpointError)


def test_a_path_without_a_file_is_refused(tmp_path):
    assert "no such file" in refused(tmp_path / "none.pt", CheckpointNotFoundError)
    assert "expected a checkpoint, found" in refused(tmp_path, NotACheckpointError)


def test_a_legacy_file_of_plain_tensors_loads(saved, model):
    torch.save(read_checkpoint(saved), saved, _use_new_zipfile_serialization=False)
    assert torch.equal(load_model_for_inference(saved).fc1.weight, model.fc1.weight)


class Normed(nn.Module):
    """A network with buffers, one of which no state_dict holds."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.register_buffer("scale", torch.full((width,), 2.0), persistent=False)
        self.fc = nn.Linear(width, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.norm(x) * self.scale)


def test_a_network_with_buffers_of_its_own_is_restored():
    model = Normed(4)
    checkpoint = inference_checkpoint(model, model_config={"width": 4}, golden_inputs=torch.rand(3, 4))
    assert isinstance(checkpoint["model_state_dict"], (dict, OrderedDict))
    rows = torch.rand(2, 4)
    assert torch.equal(restore(checkpoint, "cpu", "memory", Normed)(rows), model.eval()(rows))
