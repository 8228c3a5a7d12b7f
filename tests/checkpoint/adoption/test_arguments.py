"""The constructor's arguments of one's own network, as training programs store them."""

import argparse

import pytest
import torch
from torch import nn

from simplenet.checkpoint.adopt import Given
from simplenet.checkpoint.adoption.arguments import arguments_to_name, stored_arguments
from simplenet.checkpoint.load import load_any
from simplenet.checkpoint.reading.stand_in import StandIn
from simplenet.errors import ConfigError


class Sized(nn.Sequential):
    def __init__(self, width: int, classes: int = 3, dropout: float = 0.5) -> None:
        super().__init__(nn.Linear(12, width), nn.Dropout(dropout), nn.Linear(width, classes))


class Optional(nn.Sequential):
    def __init__(self, width: int = 8) -> None:
        super().__init__(nn.Linear(12, width), nn.Linear(width, 3))


def adopted(folder, model, **entries):
    torch.save({"state_dict": model.state_dict(), **entries}, folder / "m.pt")
    return load_any(folder / "m.pt", given=Given(network=type(model)))


@pytest.mark.parametrize("place", ["hyper_parameters", "hparams", "args", "config", "model_args", "kwargs"])
@pytest.mark.parametrize("kind", [dict, argparse.Namespace])
def test_arguments_are_found_among_others(tmp_path, place, kind):
    stored = kind(width=5, dropout=0.25, lr=0.1, device=torch.device("cpu"))
    found = adopted(tmp_path, Sized(5, dropout=0.25), **{place: stored})
    assert found.checkpoint["model_config"] == {"architecture": "Sized", "width": 5, "dropout": 0.25}
    assert f"model_config: {{'dropout': 0.25, 'width': 5}} from '{place}'" in found.notes


def test_an_attribute_dict_has_them_as_entries():
    stored = StandIn("lightning", "AttributeDict")
    stored.entries = {"width": 5, "classes": object()}
    assert stored_arguments({"hyper_parameters": stored}, Sized) == [("hyper_parameters", {"width": 5})]


def test_a_model_config_with_one_field_more_is_reduced(tmp_path):
    found = adopted(tmp_path, Sized(5), model_config={"width": 5, "lr": 0.1})
    assert found.checkpoint["model_config"] == {"architecture": "Sized", "width": 5}
    assert "model_config: {'width': 5} from 'model_config'; 'lr' left aside" in found.notes


def test_arguments_that_do_not_fit_the_weights_are_not_taken(tmp_path):
    assert adopted(tmp_path, Optional(5), hparams={"width": 5}).model[0].out_features == 5
    found = adopted(tmp_path, Optional(), args={"width": 640})
    assert found.model[0].out_features == 8
    assert not any("640" in note for note in found.notes)


def test_the_remedy_names_what_is_missing(tmp_path):
    with pytest.raises(ConfigError, match=r"missing a required argument: 'width'; name .* --model-config") as caught:
        adopted(tmp_path, Sized(5), args={"lr": 0.1})
    assert str(caught.value).endswith("""--model-config '{"width": …}'""")


@pytest.mark.parametrize("value", [object(), {"a": 1}, [[1]], torch.zeros(2)])
def test_only_plain_values_are_arguments(value):
    assert stored_arguments({"args": {"width": value}}, Sized) == []
    assert arguments_to_name({"args": {"width": value}}, Sized) == """--model-config '{"width": …}'"""


def test_lists_of_numbers_are_arguments():
    assert stored_arguments({"args": {"width": [1, 2]}}, Sized) == [("args", {"width": [1, 2]})]
