"""Folded weights in a plain network give the logits of torch's own reparametrized one."""

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from simplenet.checkpoint.adoption.reparametrized import Folded, fold


class Small(nn.Module):
    """A convolution, a transposed one, and a square and a wide linear layer: rows `(n, 3, 6, 6)` to `(n, 5)`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.up = nn.ConvTranspose2d(4, 2, 3)
        self.square = nn.Linear(72, 72)
        self.fc = nn.Linear(72, 5)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        hidden = self.up(self.conv(rows).relu()).relu().flatten(1)
        return self.fc(self.square(hidden).relu())


LAYERS = ("conv", "up", "square", "fc")


def old_weight_norm(layer: nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(layer)


def old_weight_norm_of_all(layer: nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(layer, dim=None)


WAYS: dict[str, Callable[[nn.Module], object]] = {
    "weight_norm (old)": old_weight_norm,
    "weight_norm (old, dim=None)": old_weight_norm_of_all,
    "weight_norm (new)": parametrizations.weight_norm,
    "weight_norm (new, dim=1)": lambda layer: parametrizations.weight_norm(layer, dim=1),
    "spectral_norm (old)": nn.utils.spectral_norm,
    "spectral_norm (new)": parametrizations.spectral_norm,
    "pruning": lambda layer: prune.l1_unstructured(layer, "weight", amount=0.4),
}


@pytest.fixture
def plain() -> Small:
    torch.manual_seed(0)
    return Small()


def reparametrized(plain: Small, way: Callable[[nn.Module], object]) -> Small:
    """The network in `way`, after a few steps of training, in eval mode."""
    model = copy.deepcopy(plain)
    for name in LAYERS:
        way(getattr(model, name))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.rand(2, 3, 6, 6)).square().sum().backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("way", WAYS)
def test_the_folded_network_gives_the_same_logits(way: str, plain: Small) -> None:
    model = reparametrized(plain, WAYS[way])
    stored = model.state_dict()
    before = {name: tensor.clone() for name, tensor in stored.items()}
    folded = fold(stored)
    assert folded.unfolded == ()
    assert [note.split(":")[0] for note in folded.notes] == [f"{layer}.weight" for layer in LAYERS]
    assert set(folded.state_dict) == set(plain.state_dict())
    assert all(tensor.dtype == torch.float32 for tensor in folded.state_dict.values())
    assert folded.state_dict["fc.bias"] is stored["fc.bias"]
    assert all(torch.equal(stored[name], tensor) for name, tensor in before.items())
    plain.load_state_dict(folded.state_dict)
    rows = torch.rand(4, 3, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(plain.eval()(rows), model(rows), atol=1e-6, rtol=1e-5)


def test_a_folded_weight_keeps_its_place(plain: Small) -> None:
    old_weight_norm(plain.conv)
    assert list(fold(plain.state_dict()).state_dict)[:3] == ["conv.bias", "conv.weight", "up.weight"]


def test_half_precision_stays_half() -> None:
    layer = nn.Linear(4, 3)
    parametrizations.weight_norm(layer)
    assert fold(layer.half().state_dict()).state_dict["weight"].dtype == torch.float16


def test_an_lstm_with_weight_norm_folds() -> None:
    layer = nn.LSTM(3, 4)
    expected = layer.weight_hh_l0.detach().clone()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(layer, "weight_hh_l0")
    torch.testing.assert_close(fold(layer.state_dict()).state_dict["weight_hh_l0"], expected)


def test_names_that_only_look_alike_are_left() -> None:
    stored = {
        "attention.weight_g": torch.ones(5),
        "attention.weight_v": torch.ones(3, 4),
        "gate_g": torch.ones(1),
        "gate_v": torch.ones(1),
        "fc.weight_orig": torch.ones(2, 2),
        "fc.weight_mask": torch.ones(3),
        "step_orig": torch.tensor(3),
    }
    assert fold(stored) == Folded(stored, (), ())


def test_an_orthogonal_layer_names_the_call_that_removes_it(plain: Small) -> None:
    parametrizations.orthogonal(plain.square)
    stored = plain.state_dict()
    folded = fold(stored)
    assert folded.state_dict.keys() == stored.keys()
    assert folded.unfolded == (
        "square.weight: a parametrization that is not folded here; call torch.nn.utils.parametrize."
        'remove_parametrizations(model.square, "weight") and save the state_dict again',
    )


def lora(prefix: str = "base_model.model.") -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        f"{prefix}fc.base_layer.weight": torch.rand(3, 4),
        f"{prefix}fc.base_layer.bias": torch.rand(3),
        f"{prefix}fc.lora_A.default.weight": torch.rand(2, 4),
        f"{prefix}fc.lora_B.default.weight": torch.rand(3, 2),
        f"{prefix}head.original_module.bias": torch.zeros(3),
        f"{prefix}head.modules_to_save.default.bias": torch.ones(3),
    }


def test_peft_is_folded_where_alpha_is_known() -> None:
    stored = lora()
    folded = fold(stored, lora_alpha=16)
    assert folded.unfolded == ()
    assert folded.notes == ("base_model.model.fc.weight: LoRA folded",)
    weight, _, a, b = list(stored.values())[:4]
    torch.testing.assert_close(folded.state_dict["fc.weight"], weight + 8 * b @ a)
    assert list(folded.state_dict) == ["fc.weight", "fc.bias", "head.bias"]
    assert folded.state_dict["head.bias"].tolist() == [1, 1, 1]


def test_a_convolution_with_lora_is_folded() -> None:
    torch.manual_seed(0)
    base, a, b = nn.Conv2d(3, 5, 3, bias=False), nn.Conv2d(3, 2, 3, bias=False), nn.Conv2d(2, 5, 1, bias=False)
    stored = {"c.weight": base.weight, "c.lora_A.default.weight": a.weight, "c.lora_B.default.weight": b.weight}
    rows = torch.rand(1, 3, 6, 6)
    weight = fold(stored, lora_alpha=4).state_dict["c.weight"]
    torch.testing.assert_close(nn.functional.conv2d(rows, weight), base(rows) + 2 * b(a(rows)))


def test_lora_of_an_unknown_scale_is_left_with_a_remedy() -> None:
    stored = lora()
    folded = fold(stored)
    assert folded.state_dict == stored
    assert folded.notes == ()
    assert "base_model.model.fc.weight: LoRA of an unknown scale" in folded.unfolded[0]
    assert "merge_and_unload()" in folded.unfolded[0]


def test_loralib_is_folded_where_alpha_is_known() -> None:
    stored = {"fc.weight": torch.zeros(3, 4), "fc.lora_A": torch.ones(2, 4), "fc.lora_B": torch.ones(3, 2)}
    assert fold(stored, lora_alpha=1).state_dict["fc.weight"].tolist() == [[1.0] * 4] * 3
    assert "unknown scale" in fold(stored).unfolded[0]


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({"fc.lora_magnitude_vector": torch.ones(3)}, "not folded here"),
        ({"fc.lora_A.other.weight": torch.ones(2, 4)}, "not folded here"),
        ({"fc.lora_B.default.weight": torch.ones(4, 2)}, "do not fit the weight"),
        ({"fc.lora_B.default.weight": torch.ones(3)}, "no pair of matrices"),
    ],
)
def test_other_forms_of_lora_are_left(extra: dict[str, torch.Tensor], told: str) -> None:
    stored = {**lora(""), **extra}
    folded = fold(stored, lora_alpha=1)
    assert folded.state_dict == stored
    assert told in folded.unfolded[0]


def test_factors_without_their_base_are_left() -> None:
    stored = {"fc.lora_A.weight": torch.ones(2, 4), "fc.lora_B.weight": torch.ones(3, 2)}
    assert "without the weight they are added to" in fold(stored, lora_alpha=1).unfolded[0]
