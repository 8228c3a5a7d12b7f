"""A network that could not be loaded back is refused when it is saved, with the remedy, and the remedy works."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from simplenet.checkpoint import load_model_for_inference, save_for_inference
from simplenet.errors import CheckpointError, KeyMismatchError, ShapeMismatchError
from simplenet.model import SimpleNet


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.pt"


def old_weight_norm(layer: nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn.utils.weight_norm(layer)


REPARAMETRIZED = {
    "weight_norm": (old_weight_norm, nn.utils.remove_weight_norm, "remove_weight_norm"),
    "parametrized": (
        parametrizations.weight_norm,
        lambda layer: parametrize.remove_parametrizations(layer, "weight"),
        "remove_parametrizations",
    ),
    "pruned": (
        lambda layer: prune.random_unstructured(layer, "weight", amount=0.5),
        lambda layer: prune.remove(layer, "weight"),
        r"prune\.remove",
    ),
}


@pytest.mark.parametrize("kind", REPARAMETRIZED)
def test_a_reparametrized_layer_is_refused_and_the_remedy_works(path, kind):
    apply, remove, words = REPARAMETRIZED[kind]
    model = SimpleNet(4, 8, 3)
    apply(model.fc1)
    with pytest.raises(KeyMismatchError, match=rf"cannot be loaded back.*'fc1'.*{words}"):
        save_for_inference(model, path)
    assert not path.exists()
    remove(model.fc1)
    save_for_inference(model, path)
    rows = torch.rand(2, 4)
    assert torch.allclose(load_model_for_inference(path)(rows), model(rows))


def test_a_replaced_head_is_refused(path):
    model = SimpleNet(4, 8, 3)
    model.fc2 = nn.Linear(8, 5)
    with pytest.raises(ShapeMismatchError, match=r"fc2\.weight: expected shape \(3, 8\), found .*in its construc"):
        save_for_inference(model, path)


def test_an_extra_layer_is_refused(path):
    model = SimpleNet(4, 8, 3)
    model.norm = nn.BatchNorm1d(8)
    with pytest.raises(KeyMismatchError, match=r"'norm\.weight'.*a class of your own"):
        save_for_inference(model, path)


def test_a_replaced_activation_is_refused(path):
    model = SimpleNet(4, 8, 3)
    model.relu = nn.Tanh()
    with pytest.raises(CheckpointError, match="computes something else than this network"):
        save_for_inference(model, path)


def test_the_check_draws_no_random_numbers(path):
    model = SimpleNet(4, 8, 3)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    save_for_inference(model, path)
    assert torch.equal(torch.rand(3), expected)
