"""Weights from whatever file holds them, and failures that explain themselves."""

import pickle

import pytest
import torch
from bad_requests import RunsCode
from torch import nn

from simplenet.checkpoint import (
    load_model_for_inference,
    load_pretrained_backbone,
    safe_load_model,
    save_checkpoint,
    save_for_inference,
    smart_load,
)
from simplenet.checkpoint.file import read_checkpoint, write_checkpoint
from simplenet.checkpoint.transfer import head_name, transfer_backbone
from simplenet.checkpoint.weights import read_weights
from simplenet.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    ConfigError,
    HashMismatchError,
    KeyMismatchError,
    NotACheckpointError,
    ShapeMismatchError,
    TruncatedCheckpointError,
)
from simplenet.model import SimpleNet

SIZES = {"input_size": 12, "hidden_size": 8, "num_classes": 3}


@pytest.fixture
def model() -> SimpleNet:
    torch.manual_seed(0)
    return SimpleNet(12, 8, 3)


class Fixed(nn.Module):
    """A network whose constructor takes nothing, with the layers of a SimpleNet."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(12, 8)
        self.fc2 = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.fc1(x).relu())


class Sized(nn.Module):
    """A network whose constructor needs an argument that no plain state_dict tells."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.only = nn.Linear(width, 2)


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return list(mine) == list(theirs) and all(torch.equal(mine[name], theirs[name]) for name in mine)


def wrapped(state_dict: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state_dict.items()}


def refused(path, kind: type[CheckpointError], model_class=SimpleNet, strict: bool = True) -> str:
    """The message of loading `path`: one line, of exactly this kind, with the path in it."""
    with pytest.raises(kind) as caught:
        safe_load_model(model_class, path, strict=strict)
    assert type(caught.value) is kind
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert str(path) in message
    return message


FORMS = {
    "state_dict": lambda model, path: torch.save(model.state_dict(), path),
    "state_dict of torch before 1.6": lambda model, path: torch.save(
        model.state_dict(), path, _use_new_zipfile_serialization=False
    ),
    "key state_dict": lambda model, path: torch.save({"state_dict": model.state_dict(), "epoch": 3}, path),
    "key model": lambda model, path: torch.save({"model": model.state_dict()}, path),
    "for inference": save_for_inference,
    "for training": lambda model, path: save_checkpoint(model, torch.optim.SGD(model.parameters()), 1, 0.5, path),
    "safetensors": lambda model, path: save_for_inference(model, path.with_suffix(".safetensors")),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("strict", [True, False], ids=["strict", "lenient"])
def test_any_file_that_holds_the_weights_is_loaded(model, tmp_path, form, strict):
    FORMS[form](model, tmp_path / "net.pt")
    (path,) = tmp_path.iterdir()
    loaded = safe_load_model(SimpleNet, path, "cpu", strict)
    assert same_weights(loaded, model)
    assert not loaded.training
    assert all(parameter.requires_grad for parameter in loaded.parameters())


PREFIXES = ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module._orig_mod."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_wrapped_names_are_those_of_the_bare_network(model, tmp_path, prefix):
    path = tmp_path / "net.pt"
    torch.save(wrapped(model.state_dict(), prefix), path)
    weights = read_weights(path)
    assert list(weights.state_dict) == list(model.state_dict())
    assert weights.stored_names["fc1.weight"] == f"{prefix}fc1.weight"
    assert weights.model_config == SIZES
    assert same_weights(safe_load_model(SimpleNet, path), model)
    assert same_weights(smart_load(path)[0].cpu(), model)


def test_a_compiled_submodule_is_unwrapped_too(model, tmp_path):
    names = {"fc1.weight": "fc1._orig_mod.weight", "fc1.bias": "fc1._orig_mod.bias"}
    torch.save({names.get(name, name): tensor for name, tensor in model.state_dict().items()}, tmp_path / "net.pt")
    assert same_weights(safe_load_model(SimpleNet, tmp_path / "net.pt"), model)


def test_module_in_some_names_only_is_part_of_the_network(model, tmp_path):
    state_dict = model.state_dict()
    state_dict["module.fc1.weight"] = state_dict.pop("fc1.weight")
    torch.save(state_dict, tmp_path / "net.pt")
    assert "unexpected 'module.fc1.weight'" in refused(tmp_path / "net.pt", KeyMismatchError)


def test_two_weights_of_one_bare_name_are_refused(model, tmp_path):
    torch.save({**model.state_dict(), **wrapped(model.state_dict(), "_orig_mod.")}, tmp_path / "net.pt")
    assert "two weights have the same name" in refused(tmp_path / "net.pt", KeyMismatchError)


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda model: torch.compile(model, backend="eager")])
def test_a_wrapped_network_is_saved_as_the_bare_one(model, tmp_path, wrap):
    save_for_inference(wrap(model), tmp_path / "net.pt")
    assert same_weights(load_model_for_inference(tmp_path / "net.pt"), model)


def test_a_missing_model_config_is_inferred_and_what_was_found_is_told(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "net.pt")
    weights = read_weights(tmp_path / "net.pt")
    assert weights.model_config == SIZES
    assert [finding.partition(":")[0] for finding in weights.findings] == [
        "no model_config",
        "no content hash",
        "no golden samples",
    ]
    save_for_inference(model, tmp_path / "net.pt")
    assert read_weights(tmp_path / "net.pt").findings == ()


@pytest.mark.parametrize("strict", [True, False])
def test_a_model_config_of_absurd_sizes_does_no_harm(model, tmp_path, strict):
    absurd = {"input_size": 2**24, "hidden_size": 2**24, "num_classes": 3}  # a petabyte of weights
    torch.save({"model_state_dict": model.state_dict(), "model_config": absurd}, tmp_path / "net.pt")
    assert same_weights(load_model_for_inference(tmp_path / "net.pt"), model)
    try:
        safe_load_model(SimpleNet, tmp_path / "net.pt", strict=strict)
    except (ConfigError, CheckpointError) as error:
        assert len(str(error).splitlines()) == 1


def test_a_class_that_takes_no_sizes_is_built_with_its_defaults(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "net.pt")
    assert same_weights(safe_load_model(Fixed, tmp_path / "net.pt"), model)


def test_a_class_whose_arguments_nothing_tells_is_refused(model, tmp_path):
    torch.save({"only.weight": torch.zeros(2, 4), "only.bias": torch.zeros(2)}, tmp_path / "net.pt")
    with pytest.raises(ConfigError, match="no model_config, and the class has no defaults"):
        safe_load_model(Sized, tmp_path / "net.pt")


def test_a_stored_model_config_builds_any_class(tmp_path):
    model = Sized(4)
    torch.save({"model_state_dict": model.state_dict(), "model_config": {"width": 4}}, tmp_path / "net.pt")
    assert same_weights(safe_load_model(Sized, tmp_path / "net.pt"), model)


def test_a_stored_model_config_that_does_not_fit_the_class_gives_way_to_its_defaults(model, tmp_path):
    save_for_inference(model, tmp_path / "net.pt")
    assert same_weights(safe_load_model(Fixed, tmp_path / "net.pt"), model)
    with pytest.raises(ConfigError, match="model_config does not fit Sized"):
        safe_load_model(Sized, tmp_path / "net.pt")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_strict_load_keeps_the_dtype_and_a_lenient_one_that_of_the_class(model, tmp_path, dtype):
    save_for_inference(model.to(dtype), tmp_path / "net.pt")
    assert safe_load_model(SimpleNet, tmp_path / "net.pt").fc1.weight.dtype == dtype
    assert safe_load_model(SimpleNet, tmp_path / "net.pt", strict=False).fc1.weight.dtype == torch.float32


def test_smart_load_says_where_the_network_is(model, tmp_path):
    save_for_inference(model, tmp_path / "net.pt")
    loaded, device = smart_load(tmp_path / "net.pt")
    assert isinstance(device, torch.device)
    assert loaded.fc1.weight.device.type == device.type
    assert same_weights(loaded.cpu(), model)


def test_smart_load_of_weights_that_are_no_simplenet_points_to_the_class(tmp_path):
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "net.pt")
    with pytest.raises(KeyMismatchError, match=r"not those of a SimpleNet.*--model-file"):
        smart_load(tmp_path / "net.pt")


def test_a_lenient_load_takes_what_fits_and_warns_of_what_is_random(model, tmp_path):
    state_dict = {**model.state_dict(), "fc2.bias": torch.zeros(5), "extra": torch.zeros(1)}
    del state_dict["fc2.weight"]
    torch.save({"model_state_dict": state_dict, "model_config": SIZES}, tmp_path / "net.pt")
    assert "missing 'fc2.weight'; unexpected 'extra'" in refused(tmp_path / "net.pt", KeyMismatchError)
    with pytest.warns(UserWarning, match="'fc2.weight', 'fc2.bias' not loaded: their values are random"):
        loaded = safe_load_model(SimpleNet, tmp_path / "net.pt", strict=False)
    assert torch.equal(loaded.fc1.weight, model.fc1.weight)


def test_a_lenient_load_never_hands_out_a_random_network(tmp_path):
    torch.save({"features.weight": torch.zeros(3, 4), "features.bias": torch.zeros(3)}, tmp_path / "net.pt")
    with pytest.raises(KeyMismatchError, match="nothing matches SimpleNet"):
        safe_load_model(SimpleNet, tmp_path / "net.pt", strict=False)


def test_a_lenient_load_of_all_the_weights_has_nothing_to_report(model, tmp_path, caplog):
    save_for_inference(model, tmp_path / "net.pt")
    safe_load_model(SimpleNet, tmp_path / "net.pt", strict=False)
    assert not caplog.messages


def test_a_file_that_is_not_there_is_not_found(tmp_path):
    assert "no such file" in refused(tmp_path / "none.pt", CheckpointNotFoundError)


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "lenient"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_cut_anywhere_is_truncated(model, tmp_path, suffix, strict):
    path = tmp_path / f"net{suffix}"
    save_for_inference(model, path)
    whole = path.read_bytes()
    assert len(whole) > 1000
    for length in (*range(16, len(whole) - 1, 97), len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(path, TruncatedCheckpointError, strict=strict)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("length", range(16))
def test_a_file_cut_in_its_first_bytes_is_truncated_or_something_else(model, tmp_path, suffix, length):
    path = tmp_path / f"net{suffix}"
    save_for_inference(model, path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises((TruncatedCheckpointError, NotACheckpointError)):
        safe_load_model(SimpleNet, path)


@pytest.mark.parametrize(
    "contents", [[1, 2], {"model_state_dict": {}}, {"epoch": 3}, {"fc1.weight": 3}, {}, {"state_dict": [torch.ones(1)]}]
)
def test_a_file_without_weights_is_not_a_checkpoint(tmp_path, contents):
    torch.save(contents, tmp_path / "net.pt")
    assert "expected" in refused(tmp_path / "net.pt", NotACheckpointError)


def test_a_file_of_another_kind_is_not_a_checkpoint(tmp_path):
    (tmp_path / "net.pt").write_bytes(b"hello, world, this is some text")
    refused(tmp_path / "net.pt", NotACheckpointError)


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "lenient"])
@pytest.mark.parametrize("form", ["zip", "legacy", "plain pickle"])
def test_a_pickle_with_code_is_not_run(tmp_path, form, strict):
    marker, path = tmp_path / "marker", tmp_path / "net.pt"
    evil = {"model_state_dict": {"fc1.weight": torch.zeros(2)}, "x": RunsCode(str(marker))}
    if form == "plain pickle":
        path.write_bytes(pickle.dumps(evil["x"]))
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(CheckpointError) as caught:  # what else it holds is no network
        safe_load_model(SimpleNet, path, strict=strict)
    assert not marker.exists()
    assert len(str(caught.value).splitlines()) == 1


def test_a_shape_mismatch_names_layer_shapes_and_the_config_that_fits(model, tmp_path):
    contents = {"model_state_dict": model.state_dict(), "model_config": {**SIZES, "hidden_size": 9}}
    torch.save(contents, tmp_path / "net.pt")
    message = refused(tmp_path / "net.pt", ShapeMismatchError)
    assert "fc1.weight: expected shape (9, 12), found (8, 12)" in message
    assert f"the model_config that fits is {SIZES}" in message


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "lenient"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_one_flipped_bit_is_a_hash_mismatch(model, tmp_path, suffix, strict):
    path = tmp_path / f"net{suffix}"
    save_for_inference(model, path)
    contents = bytearray(path.read_bytes())
    contents[contents.index(model.fc2.weight.detach().numpy().tobytes()) + 5] ^= 1
    path.write_bytes(contents)
    message = refused(path, HashMismatchError, strict=strict)
    assert ("expected CRC-32" if suffix == ".pt" else "content hash expected") in message


def test_a_flipped_bit_under_a_wrapped_name_is_found(model, tmp_path):
    save_for_inference(model, tmp_path / "net.pt")
    checkpoint = read_checkpoint(tmp_path / "net.pt")
    checkpoint["model_state_dict"] = wrapped(checkpoint["model_state_dict"], "module.")
    write_checkpoint(checkpoint, tmp_path / "net.pt")
    refused(tmp_path / "net.pt", HashMismatchError)


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "lenient"])
def test_weights_of_another_kind_of_number_are_refused(model, tmp_path, strict):
    torch.save({name: tensor.int() for name, tensor in model.state_dict().items()}, tmp_path / "net.pt")
    assert "expected floating-point weights, found int32" in refused(
        tmp_path / "net.pt", CheckpointError, strict=strict
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_device_that_is_not_there_is_named(model, tmp_path, suffix):
    path = tmp_path / f"net{suffix}"
    save_for_inference(model, path)
    with pytest.raises(CheckpointError, match="cannot be loaded to 'cuda'") as caught:
        safe_load_model(SimpleNet, path, "cuda")
    assert type(caught.value) is CheckpointError


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_tensors_that_say_cuda_load_on_the_cpu(model, tmp_path, monkeypatch, legacy):
    path = tmp_path / "net.pt"
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save(model.state_dict(), path, _use_new_zipfile_serialization=not legacy)
    assert b"cuda:0" in path.read_bytes()
    loaded = safe_load_model(SimpleNet, path)
    assert loaded.fc1.weight.device.type == "cpu"
    assert same_weights(loaded, model)


@pytest.mark.parametrize("num_classes", [3, 7], ids=["same head", "other head"])
@pytest.mark.parametrize("freeze", [True, False], ids=["freeze", "free"])
def test_a_backbone_is_taken_and_the_head_stays_new(model, tmp_path, num_classes, freeze):
    save_for_inference(model, tmp_path / "net.pt")
    fresh = SimpleNet(12, 8, num_classes)
    head = fresh.fc2.weight.detach().clone()
    assert load_pretrained_backbone(fresh, tmp_path / "net.pt", freeze) is fresh
    assert torch.equal(fresh.fc1.weight, model.fc1.weight)
    assert torch.equal(fresh.fc1.bias, model.fc1.bias)
    assert torch.equal(fresh.fc2.weight, head)
    trainable = {name for name, parameter in fresh.named_parameters() if parameter.requires_grad}
    assert trainable == {"fc2.weight", "fc2.bias"} | (set() if freeze else {"fc1.weight", "fc1.bias"})


def test_only_what_was_taken_is_frozen(model, tmp_path):
    state_dict = {**model.state_dict(), "fc1.bias": torch.zeros(99), "other": torch.zeros(1)}
    torch.save(state_dict, tmp_path / "net.pt")
    report = transfer_backbone(model, tmp_path / "net.pt")
    assert (report.loaded, report.mismatched, report.unexpected) == (("fc1.weight",), ("fc1.bias",), ("other",))
    assert [parameter.requires_grad for parameter in model.parameters()] == [False, True, True, True]


def test_what_was_frozen_before_stays_frozen(model, tmp_path):
    save_for_inference(model, tmp_path / "net.pt")
    model.fc2.bias.requires_grad_(False)
    transfer_backbone(model, tmp_path / "net.pt")
    assert not model.fc2.bias.requires_grad


def test_the_backbone_of_a_wrapped_network_is_found(model, tmp_path):
    save_for_inference(model, tmp_path / "net.pt")
    fresh = SimpleNet(12, 8, 2)
    load_pretrained_backbone(nn.DataParallel(fresh), tmp_path / "net.pt")
    assert torch.equal(fresh.fc1.weight, model.fc1.weight)
    assert fresh.fc2.weight.requires_grad


def test_a_backbone_that_matches_nowhere_changes_nothing(model, tmp_path):
    save_for_inference(SimpleNet(5, 4, 3), tmp_path / "net.pt")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(KeyMismatchError, match="nothing matches SimpleNet's backbone"):
        load_pretrained_backbone(model, tmp_path / "net.pt")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_head_is_the_last_layer_with_weights():
    assert head_name(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU())) == "1"
    with pytest.raises(ConfigError, match="Linear: expected layers"):
        head_name(nn.Linear(2, 2))
