import pytest
import torch
from torch import nn

from simplenet.checkpoint import load_model_for_inference, save_for_inference, smart_load
from simplenet.checkpoint.state_dict import fitting_config
from simplenet.checkpoint.transfer import head_name
from simplenet.errors import ConfigError
from simplenet.model import ModelConfig, SimpleNet, build_model, model_config_of, register_architecture

CONFIG = {"input_size": 12, "hidden_size": 5, "num_classes": 3}
ROW = torch.zeros(12)


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


DEEP = {"input_size": 12, "hidden_sizes": [9, 7, 5], "num_classes": 3}


def test_a_deeper_network_has_a_relu_after_each_hidden_layer_and_its_head_last():
    model = SimpleNet(12, hidden_sizes=(9, 7, 5), num_classes=3)
    x = torch.randn(4, 12)
    expected = x
    for layer in (model.fc1, model.fc2, model.fc3):
        expected = (expected @ layer.weight.T + layer.bias).clamp(min=0)
    torch.testing.assert_close(model(x), expected @ model.fc4.weight.T + model.fc4.bias)
    assert head_name(model) == "fc4"
    assert isinstance(model.relu, nn.ReLU)


def test_a_deeper_network_is_a_config_that_rebuilds_it_and_is_found_from_its_weights(tmp_path):
    model = SimpleNet(12, hidden_sizes=[9, 7, 5], num_classes=3)
    assert model_config_of(model) == DEEP == fitting_config(model.state_dict())
    for suffix in (".pt", ".safetensors"):
        save_for_inference(model, tmp_path / f"deep{suffix}")
        loaded = load_model_for_inference(tmp_path / f"deep{suffix}")
        assert loaded.config == model.config
        assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))
    torch.save(model.state_dict(), tmp_path / "bare.pt")
    assert smart_load(tmp_path / "bare.pt")[0].config == model.config


def test_one_hidden_layer_has_one_spelling():
    assert SimpleNet(12, hidden_sizes=[5], num_classes=3).config == ModelConfig(**CONFIG)
    assert ModelConfig.from_dict({"input_size": 12, "hidden_sizes": [5], "num_classes": 3}).to_dict() == CONFIG
    assert str(ModelConfig(**CONFIG)) == "ModelConfig(input_size=12, hidden_size=5, num_classes=3)"


@pytest.mark.parametrize("change", [{"fc2.bias": torch.zeros(8)}, {"fc3.weight": torch.zeros(5, 6)}, {"fc5.x": ROW}])
def test_weights_that_do_not_chain_fit_no_config(change):
    assert fitting_config({**SimpleNet(12, hidden_sizes=(9, 7, 5), num_classes=3).state_dict(), **change}) is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**DEEP, "hidden_size": 9}, "unknown field 'hidden_size'; expected 'input_size', 'hidden_sizes'"),
        ({"hidden_sizes": [3]}, "missing field 'input_size', 'num_classes'"),
        ({**DEEP, "hidden_sizes": []}, r"\['hidden_sizes'\]: expected a list of 1 to 64 sizes, found \[\]"),
        ({**DEEP, "hidden_sizes": [1] * 65}, "expected a list of 1 to 64 sizes"),
        ({**DEEP, "hidden_sizes": 9}, "expected a list of 1 to 64 sizes, found 9"),
        ({**DEEP, "hidden_sizes": [9, 0]}, r"\['hidden_sizes'\]\[1\]: expected a whole number from 1 .*found 0"),
        ({**DEEP, "hidden_sizes": [9, "7"]}, r"\['hidden_sizes'\]\[1\]: expected a whole number from 1 .*found '7'"),
    ],
)
def test_impossible_hidden_sizes_are_refused(values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build_model(values)
    assert len(str(caught.value).splitlines()) == 1


def test_two_spellings_of_the_hidden_layers_are_refused():
    with pytest.raises(ConfigError, match=r"expected hidden_size or hidden_sizes, found 8 and \(9, 7\)"):
        SimpleNet(12, 8, 3, hidden_sizes=(9, 7))


def test_a_network_whose_constructor_takes_nothing_needs_no_config():
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)

    assert model_config_of(Fixed()) == {"architecture": "Fixed"}
    assert isinstance(build_model({"architecture": "Fixed"}, Fixed), Fixed)
    with pytest.raises(ConfigError, match="model_config does not fit Fixed: got an unexpected"):
        build_model({"architecture": "Fixed", "x": 1}, Fixed)


def test_a_damaged_config_gets_a_short_message():
    nest = [1]
    for _ in range(40):
        nest = [nest, nest]
    other = [1]
    for _ in range(40):
        other = [other, other]
    sizes = {"input_size": 4, "num_classes": 3}
    for config in (
        {**sizes, "hidden_sizes": [1] * 20_000},
        {**sizes, "hidden_sizes": nest},
        {**sizes, "hidden_size": nest},
        {**sizes, "hidden_size": 8, "architecture": nest},
        {**sizes, "hidden_size": 8, (("a",) * 3): 3},
    ):
        with pytest.raises(ConfigError, match="model_config") as caught:
            build_model(config)
        assert len(str(caught.value)) < 500
    with pytest.raises(ConfigError, match="hidden_size or hidden_sizes"):
        ModelConfig(4, other, 3, [nest])
