import pytest
import torch
from torch import nn

from simplenet.errors import ConfigError
from simplenet.model import ModelConfig, SimpleNet, build_model, model_config_of, register_architecture

CONFIG = {"input_size": 12, "hidden_size": 5, "num_classes": 3}


@register_architecture
class Linear(nn.Module):
    def __init__(self, input_size: int, bias: bool = True) -> None:
        super().__init__()
        self.config = {"input_size": input_size}
        self.fc = nn.Linear(input_size, 2, bias=bias)


def test_the_network_is_linear_relu_linear():
    model = SimpleNet(**CONFIG)
    x = torch.randn(4, 12)
    hidden = (x @ model.fc1.weight.T + model.fc1.bias).clamp(min=0)
    torch.testing.assert_close(model(x), hidden @ model.fc2.weight.T + model.fc2.bias)


def test_the_defaults_are_those_of_mnist():
    assert ModelConfig().to_dict() == {"input_size": 784, "hidden_size": 256, "num_classes": 10}
    assert SimpleNet()(torch.zeros(2, 784)).shape == (2, 10)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**CONFIG, "depth": 3}, "unknown field 'depth'; expected 'input_size', 'hidden_size', 'num_classes'"),
        ({"input_size": 12}, "missing field 'hidden_size', 'num_classes'; found 'input_size'"),
        ({**CONFIG, "hidden_size": 0}, r"model_config\['hidden_size'\]: expected a whole number from 1 .*found 0"),
        ({**CONFIG, "hidden_size": 2**24 + 1}, "expected a whole number from 1 to 16777216, found 16777217"),
        ({**CONFIG, "input_size": -1}, "found -1"),
        ({**CONFIG, "input_size": 7.0}, "found 7.0"),
        ({**CONFIG, "num_classes": True}, "found True"),
        ({**CONFIG, "num_classes": "1\n0"}, r"found '1\\n0'"),
        ([1, 2, 3], "model_config: expected a dict, found list"),
        (None, "model_config: expected a dict, found NoneType"),
        ({**CONFIG, "architecture": "ResNet"}, r"\['architecture'\]: expected one of .*'SimpleNet', found 'ResNet'"),
        ({**CONFIG, "architecture": ["SimpleNet"]}, r"\['architecture'\]: expected one of .*found \['SimpleNet'\]"),
        ({"architecture": "Linear", "bias": True}, "model_config does not fit Linear: missing .* 'input_size'"),
        ({"architecture": "Linear", "input_size": 3, "x": 1}, "model_config does not fit Linear: got an unexpected"),
    ],
)
def test_an_impossible_model_config_is_refused(values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build_model(values)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("model", [SimpleNet(**CONFIG), Linear(3)], ids=["SimpleNet", "registered"])
def test_a_network_is_rebuilt_from_its_own_model_config(model):
    rebuilt = build_model(model_config_of(model))
    assert type(rebuilt) is type(model)
    assert [p.shape for p in rebuilt.parameters()] == [p.shape for p in model.parameters()]


def test_a_network_given_by_class_needs_no_registration():
    assert isinstance(build_model({"in_features": 3, "out_features": 2, "architecture": "x"}, nn.Linear), nn.Linear)


def test_a_network_without_a_config_is_refused():
    with pytest.raises(ConfigError, match=r"Linear.config: expected .* found NoneType; or pass model_config="):
        model_config_of(nn.Linear(2, 2))
