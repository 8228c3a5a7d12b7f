"""Files of networks that are not SimpleNets: the message says to bring the network, and then it works."""

import re

import pytest
import torch
from torch import nn

from simplenet.checkpoint.adopt import Given
from simplenet.checkpoint.load import load_any
from simplenet.errors import CheckpointError, ConfigError, KeyMismatchError
from simplenet.model import SimpleNet


class Normed(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.fc1 = nn.Linear(12, width)
        self.bn1 = nn.BatchNorm1d(width)
        self.fc2 = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(torch.relu(self.bn1(self.fc1(x))))


class OneLayer(nn.Linear):
    def __init__(self) -> None:
        super().__init__(12, 3)


class WeightNormed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.utils.parametrizations.weight_norm(nn.Linear(12, 8))
        self.norm = nn.LayerNorm(8)
        self.fc2 = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.norm(self.fc1(x)))


class Folded(WeightNormed):
    """The same network without the reparametrization, as for serving."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(12, 8)


class Pictures(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, channels, 3)
        self.head = nn.Linear(channels * 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(self.head(self.convolution(x).flatten(1)), 1)


@pytest.mark.parametrize("network", [Normed, OneLayer, WeightNormed])
def test_the_message_says_to_bring_the_network_and_then_it_works(tmp_path, network):
    torch.manual_seed(0)
    model, path = network().eval(), tmp_path / "theirs.pt"
    torch.save({"epoch": 3, "state_dict": {f"module.{n}": t for n, t in model.state_dict().items()}}, path)
    with pytest.raises(
        KeyMismatchError, match=rf"archive {re.escape(str(path))} --model-file net.py --model-class Net$"
    ):
        load_any(path)
    adopted = load_any(path, given=Given(network=network))
    rows = torch.rand(5, 12)
    assert torch.equal(adopted.model(rows), model(rows))
    assert adopted.checkpoint["golden"]["inputs"].shape == (8, 12)


def test_reparametrized_weights_fit_the_plain_network_too(tmp_path):
    model = WeightNormed().eval()
    torch.save(model.state_dict(), tmp_path / "theirs.pt")
    adopted = load_any(tmp_path / "theirs.pt", given=Given(network=Folded))
    rows = torch.rand(5, 12)
    assert torch.allclose(adopted.model(rows), model(rows), atol=1e-6)
    assert any("weight_norm" in note for note in adopted.notes)


def test_a_network_of_pictures_asks_for_their_shape_and_says_what_it_returns(tmp_path):
    model, path = Pictures(channels=2).eval(), tmp_path / "theirs.pt"
    torch.save(model.state_dict(), path)
    with pytest.raises(ConfigError, match="--model-config"):
        load_any(path, given=Given(network=Pictures))
    given = {"network": Pictures, "model_config": {"channels": 2}}
    with pytest.raises(ConfigError, match=r"--input-shape 1,28,28"):
        _ = load_any(path, given=Given(**given)).checkpoint
    steps = {"mean": 0.5, "std": 0.25}
    adopted = load_any(path, given=Given(**given, input_shape=(1, 4, 4), preprocessing=steps))
    assert adopted.checkpoint["output"] == "log_probabilities"
    assert adopted.checkpoint["input_shape"] == [1, 4, 4]
    assert "output: log_probabilities, as the golden outputs show" in adopted.notes


def test_weights_of_another_network_are_told_with_the_class(tmp_path):
    torch.save(Normed().state_dict(), tmp_path / "theirs.pt")
    with pytest.raises(CheckpointError, match=r"do not fit Pictures: (found fc1\.weight|missing 'conv)"):
        load_any(tmp_path / "theirs.pt", given=Given(network=Pictures, model_config={"channels": 2}))


def test_an_ema_copy_of_ones_own_network_is_taken_by_its_prefix(tmp_path):
    model, average = Normed(), Normed()
    weights = {f"model.{n}": t for n, t in model.state_dict().items()}
    weights |= {f"ema.{n}": t for n, t in average.state_dict().items()}
    torch.save({"state_dict": weights}, tmp_path / "theirs.pt")
    taken = load_any(tmp_path / "theirs.pt", given=Given(network=Normed))
    assert torch.equal(taken.model.fc1.weight, model.fc1.weight)
    other = load_any(tmp_path / "theirs.pt", given=Given(network=Normed, key="state_dict.ema"))
    assert torch.equal(other.model.fc1.weight, average.fc1.weight)


def test_a_float16_network_that_overflows_is_refused_with_a_remedy_that_works(tmp_path):
    path = tmp_path / "half.pt"
    weights = {name: torch.full_like(tensor, 1000.0) for name, tensor in SimpleNet(12, 8, 3).state_dict().items()}
    torch.save({name: tensor.half() for name, tensor in weights.items()}, path)
    with pytest.raises(CheckpointError, match=r"half.pt: .* are NaN or infinite.*; convert the weights to float32"):
        _ = load_any(path).checkpoint
    torch.save(weights, path)
    assert load_any(path).checkpoint
