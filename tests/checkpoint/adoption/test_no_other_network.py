"""Files whose weights look like a SimpleNet's but are not are refused: what was not trained is not served."""

from argparse import Namespace
from collections import OrderedDict

import pytest
import torch
from torch import nn

from simplenet.checkpoint.load import load_any
from simplenet.errors import CheckpointError, ConfigError


def layers(*shapes: tuple[str, int, int], bias: bool = True) -> dict[str, torch.Tensor]:
    """A state_dict of linear layers, each by its name, inputs and outputs."""
    return {
        f"{name}.{part}": tensor
        for name, inputs, outputs in shapes
        for part, tensor in (("weight", torch.rand(outputs, inputs)), ("bias", torch.rand(outputs)))
        if bias or part == "weight"
    }


MLP = layers(("fc1", 12, 8), ("fc2", 8, 3))


class Functional(nn.Module):
    """Its class tells nothing of what it computes."""

    def __init__(self, **attributes: object) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(12, 8), nn.Linear(8, 3)
        for name, value in attributes.items():
            setattr(self, name, value)


def sequential(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(*modules)


OTHERS = {
    "an autoencoder": layers(("encoder.0", 12, 8), ("encoder.2", 8, 4), ("decoder.0", 4, 8), ("decoder.2", 8, 12)),
    "an autoencoder, flat": layers(("enc1", 12, 8), ("enc2", 8, 4), ("dec1", 4, 8), ("dec2", 8, 12)),
    "parts of a network": layers(("features.0", 12, 8), ("features.2", 8, 8), ("head", 8, 3)),
    "neighbours in a Sequential": layers(("0", 12, 8), ("1", 8, 3)),
    "an embedding": {"embed.weight": torch.rand(16, 8), **layers(("fc", 8, 3))},
    "an embedding without a name": {"0.weight": torch.rand(16, 8), **layers(("2", 8, 3))},
    "a gated layer": layers(("w1", 12, 8), ("w2", 8, 12), ("w3", 12, 8), bias=False),
    "an adapter": {f"base_model.model.fc1.lora_{n}.weight": torch.rand(s) for n, s in (("A", (2, 12)), ("B", (8, 2)))},
    "sorted names of equal sizes": layers(("alpha", 8, 8), ("beta", 8, 8), ("gamma", 8, 8)),
    "an encoder without its classifier": {"encoder_state": MLP, "classifier_state": layers(("c", 3, 2))},
    "a head without its backbone": {"head": MLP, "backbone": {"conv.weight": torch.rand(4, 1, 3, 3)}},
    "another activation beside it": {"state_dict": MLP, "hyper_parameters": {"activation": "tanh"}},
    "another activation in a Namespace": {"state_dict": MLP, "args": Namespace(act="gelu", lr=0.1)},
    "another architecture": {"model_state_dict": MLP, "model_config": {"architecture": "TanhMLP", "inputs": 12}},
    "no activation": sequential(nn.Linear(12, 8), nn.Linear(8, 3)),
    "a softmax inside": sequential(nn.Linear(12, 8), nn.Softmax(1), nn.Linear(8, 3)),
    "a softmax first": sequential(nn.Softmax(1), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)),
    "ReLU at the end": sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3), nn.ReLU()),
    "a softmax over the batch": sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3), nn.Softmax(0)),
    "tanh": sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3)),
    "tanh as an attribute": Functional(act=torch.tanh),
    "gelu by its name": Functional(activation="gelu"),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_another_network_is_refused(tmp_path, kind):
    torch.save(OTHERS[kind], tmp_path / "theirs.pt")
    with pytest.raises((CheckpointError, ConfigError)) as caught:
        load_any(tmp_path / "theirs.pt")
    assert len(str(caught.value).splitlines()) == 1


def test_the_order_of_definition_counts_where_names_say_nothing(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(
        OrderedDict(input=nn.Linear(8, 8), r=nn.ReLU(), hidden1=nn.Linear(8, 8), r2=nn.ReLU(), output=nn.Linear(8, 8))
    )
    rows = torch.rand(4, 8)
    for contents in (model, model.state_dict()):
        torch.save(contents, tmp_path / "theirs.pt")
        try:
            found = load_any(tmp_path / "theirs.pt").model
        except CheckpointError:  # refused is right too
            continue
        assert torch.allclose(found(rows), model(rows), atol=1e-6)


@pytest.mark.parametrize("name", ["f1", "acc", "metric_head", "loss_adapter"])
def test_a_layer_with_the_name_of_a_loss_is_not_dropped(tmp_path, name):
    torch.save(layers((name, 12, 8), ("l2", 8, 4), ("l3", 4, 3)), tmp_path / "theirs.pt")
    try:
        found = load_any(tmp_path / "theirs.pt").model
    except CheckpointError:
        return
    assert found.config.input_size == 12


def test_what_the_names_do_not_tell_is_said(tmp_path):
    torch.save(layers(("hidden", 12, 8), ("output", 8, 3)), tmp_path / "theirs.pt")
    assert any(note.startswith("ReLU is assumed") for note in load_any(tmp_path / "theirs.pt").notes)
    torch.save(MLP, tmp_path / "theirs.pt")
    assert not any("ReLU" in note for note in load_any(tmp_path / "theirs.pt").notes)


def test_an_adapter_is_told_how_to_be_merged(tmp_path):
    torch.save(OTHERS["an adapter"], tmp_path / "theirs.pt")
    with pytest.raises(CheckpointError, match="merge_and_unload"):
        load_any(tmp_path / "theirs.pt")


def test_a_part_is_taken_by_its_key(tmp_path):
    from simplenet.checkpoint.adopt import Given

    torch.save(OTHERS["an encoder without its classifier"], tmp_path / "theirs.pt")
    with pytest.raises(CheckpointError, match=r"may be parts of one network.*--key encoder_state"):
        load_any(tmp_path / "theirs.pt")
    assert load_any(tmp_path / "theirs.pt", given=Given(key="encoder_state")).model.config.num_classes == 3


def test_a_pickled_network_with_a_loss_is_adopted(tmp_path):
    torch.save(Functional(ce=nn.CrossEntropyLoss(weight=torch.ones(3))), tmp_path / "theirs.pt")
    assert load_any(tmp_path / "theirs.pt").model.config.num_classes == 3


def test_files_without_biases_name_no_ghosts(tmp_path):
    torch.save(layers(("model.net.fc1", 12, 8), ("model.net.fc2", 8, 3), bias=False), tmp_path / "theirs.pt")
    notes = load_any(tmp_path / "theirs.pt").notes
    assert not any("would fit too" in note for note in notes)
    assert any("zeros stand for layers without a bias" in note for note in notes)
