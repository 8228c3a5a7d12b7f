"""What holds for every checkpoint: saving and loading is the identity, and the hash is that of the tensors alone."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simplenet.checkpoint import load_model_for_inference, safe_load_model, save_for_inference, smart_load
from simplenet.checkpoint.file import read_checkpoint, write_checkpoint
from simplenet.checkpoint.keys import (
    CERTIFICATE,
    CONTENT_HASH,
    FORMAT_VERSION,
    MODEL_STATE_DICT,
    PARENT_HASH,
    PYTORCH_VERSION,
    TIMESTAMP,
)
from simplenet.checkpoint.weights import read_weights
from simplenet.content_hash import content_hash
from simplenet.model import SimpleNet

RESERVED = {CERTIFICATE, CONTENT_HASH, FORMAT_VERSION, PARENT_HASH, PYTORCH_VERSION, TIMESTAMP}
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
DTYPES = (*FLOATS, torch.int64, torch.int32, torch.int8, torch.uint8, torch.bool)
State = dict[str, torch.Tensor]


def few(examples: int) -> Any:
    return settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@contextmanager
def file_named(name: str) -> Iterator[Path]:
    """A name in a folder of its own: hypothesis would share `tmp_path` between examples."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / name


def nested(keys: st.SearchStrategy[Any], leaves: st.SearchStrategy[Any], *, tuples: bool) -> st.SearchStrategy[Any]:
    def deeper(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        lists = st.lists(inner, max_size=3)
        return st.dictionaries(keys, inner, max_size=3) | lists | (lists.map(tuple) if tuples else lists)

    return st.recursive(leaves, deeper, max_leaves=6)


def metadata_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.text(max_size=8).filter(lambda key: key not in RESERVED), values, max_size=4)


TEXT = st.text(max_size=8)
PLAIN = metadata_of(
    nested(
        TEXT | st.integers() | st.none(),
        st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
        tuples=True,
    )
)
JSON = metadata_of(
    nested(
        TEXT,
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | TEXT,
        tuples=False,
    )
)


@st.composite
def networks(draw: st.DrawFn) -> SimpleNet:
    sizes = [draw(st.integers(1, most)) for most in (9, 6, 4)]
    torch.manual_seed(draw(st.integers(0, 2**32)))
    return SimpleNet(*sizes).to(draw(st.sampled_from(FLOATS)))


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Any bytes as any dtype in any small shape: NaN, infinity and no elements among them."""
    dtype, shape = draw(st.sampled_from(DTYPES)), draw(st.lists(st.integers(0, 3), max_size=3))
    size = torch.empty(shape, dtype=dtype).nbytes
    values = st.integers(0, 1) if dtype == torch.bool else st.integers(0, 255)
    raw = torch.tensor(draw(st.lists(values, min_size=size, max_size=size)), dtype=torch.uint8)
    return raw.view(dtype).reshape(shape)


NAMES = st.text("abc_.0", min_size=1, max_size=8)
STATES: st.SearchStrategy[State] = st.dictionaries(NAMES, tensors(), min_size=1, max_size=4)


def exactly(state_dict: State) -> dict[str, tuple[torch.dtype, tuple[int, ...], list[int]]]:
    """What a state_dict is, to the bit, whatever its order and strides."""
    return {
        name: (tensor.dtype, tuple(tensor.shape), tensor.detach().clone().reshape(-1).view(torch.uint8).tolist())
        for name, tensor in sorted(state_dict.items())
    }


def check_that_everything_comes_back(model: SimpleNet, metadata: dict[str, Any], name: str) -> None:
    classes = [f"class {number}" for number in range(model.config.num_classes)]
    weights, config = exactly(model.state_dict()), model.config.to_dict()
    with file_named(name) as path:
        save_for_inference(model, path, metadata, classes=classes)
        checkpoint = read_checkpoint(path)
        loaded = [load_model_for_inference(path), safe_load_model(SimpleNet, path), smart_load(path)[0].cpu()]
    found = {key: value for key, value in checkpoint["metadata"].items() if key not in RESERVED}
    assert repr(found) == repr(metadata)  # also tells 1 from True and 1.0, and finds NaN equal
    assert (checkpoint["model_config"], checkpoint["classes"]) == (config, classes)
    for state_dict in (checkpoint["model_state_dict"], *(network.state_dict() for network in loaded)):
        assert exactly(state_dict) == weights
    assert all(network.config == model.config and not network.training for network in loaded)


@few(100)
@given(networks(), PLAIN)
def test_what_is_saved_as_pt_comes_back(model, metadata):
    check_that_everything_comes_back(model, metadata, "net.pt")


@few(100)
@given(networks(), JSON)
def test_what_is_saved_as_safetensors_comes_back(model, metadata):
    check_that_everything_comes_back(model, metadata, "net.safetensors")


@few(150)
@given(STATES, st.sampled_from(["net.pt", "net.safetensors"]), st.booleans())
def test_any_tensors_come_back_to_the_bit(state_dict, name, mapped):
    with file_named(name) as path:
        write_checkpoint({MODEL_STATE_DICT: state_dict}, path)
        found = exactly(read_checkpoint(path, mapped=mapped)[MODEL_STATE_DICT])
    assert found == exactly(state_dict)


@few(150)
@given(STATES, st.lists(st.sampled_from(["module.", "_orig_mod."]), max_size=4), st.booleans())
def test_prefixes_are_taken_off_whatever_their_order(state_dict, prefixes, plain):
    named = {"".join(prefixes) + name: tensor for name, tensor in state_dict.items()}
    with file_named("net.pt") as path:
        torch.save(named if plain else {MODEL_STATE_DICT: named}, path)
        weights = read_weights(path)
    assert exactly(weights.state_dict) == exactly(state_dict)
    assert list(weights.state_dict) == list(state_dict)
    assert next(iter(weights.stored_names.values()), None) == (next(iter(named)) if prefixes else None)


def laid_out_differently(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The same values with other strides, another offset, on shared memory or with a gradient wanted."""
    doubled = torch.stack([tensor, tensor], dim=-1)[..., 0]
    reversed_axes = tensor.permute(tuple(reversed(range(tensor.ndim))))
    wanted = [tensor.clone().requires_grad_()] if tensor.is_floating_point() else []
    return [doubled, reversed_axes.contiguous().permute(tuple(reversed(range(tensor.ndim)))), *wanted]


@few(150)
@given(STATES, st.randoms(use_true_random=False))
def test_neither_order_nor_layout_changes_the_hash(state_dict, chance):
    names = list(state_dict)
    chance.shuffle(names)
    other = {name: chance.choice(laid_out_differently(state_dict[name])) for name in names}
    assert content_hash(other) == content_hash(state_dict)


# Names, shapes and values so few that two states are often the same.
BITS = st.tuples(
    st.sampled_from([torch.int8, torch.uint8, torch.bool]), st.sampled_from([(2,), (1, 2), (2, 1)]), st.integers(0, 3)
).map(lambda kind: torch.tensor([kind[2] & 1, kind[2] >> 1], dtype=kind[0]).reshape(kind[1]))
SMALL = st.dictionaries(st.sampled_from(["a", "b"]), BITS, max_size=2)


@few(500)
@given(SMALL, SMALL)
def test_two_states_have_one_hash_if_and_only_if_they_are_the_same(one, other):
    assert (content_hash(one) == content_hash(other)) == (exactly(one) == exactly(other))


@few(100)
@given(STATES, st.data())
@pytest.mark.parametrize("change", ["name", "dtype", "shape", "byte", "one less", "one more"])
def test_every_change_changes_the_hash(change, state_dict, data):
    name = data.draw(st.sampled_from(sorted(state_dict)))
    tensor, other = state_dict[name].contiguous(), dict(state_dict)
    if change == "name":
        other[data.draw(NAMES.filter(lambda new: new not in state_dict))] = other.pop(name)
    elif change == "dtype":
        twins = [dtype for dtype in DTYPES if dtype.itemsize == tensor.element_size() and dtype != tensor.dtype]
        other[name] = tensor.view(data.draw(st.sampled_from([twin for twin in twins if twin != torch.bool])))
    elif change == "shape":
        other[name] = tensor.unsqueeze(data.draw(st.integers(0, tensor.ndim)))
    elif change == "byte" and tensor.numel():
        flipped = tensor.clone().reshape(-1)
        flipped.view(torch.uint8)[data.draw(st.integers(0, flipped.nbytes - 1))] ^= 1
        other[name] = flipped.reshape(tensor.shape)
    elif change == "one less":
        del other[name]
    else:
        other[data.draw(NAMES.filter(lambda new: new not in state_dict))] = tensor
    assert exactly(other) != exactly(state_dict)
    assert content_hash(other) != content_hash(state_dict)
