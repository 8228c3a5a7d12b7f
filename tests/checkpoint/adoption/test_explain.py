"""What is said of weights without names and of weights that do not fit; the command in a message works as it stands."""

import os
import re
import subprocess
import sys

import pytest
import torch

from simplenet.checkpoint.adoption.candidates import Candidate
from simplenet.checkpoint.adoption.explain import no_fit, no_weights
from simplenet.checkpoint.load import load_any
from simplenet.errors import NotACheckpointError
from simplenet.model import SimpleNet

THREE_LAYERS = SimpleNet(12, hidden_sizes=(8, 6), num_classes=3)


def numbered(model=THREE_LAYERS):
    return dict(enumerate(model.state_dict().values()))


def in_bytes(model=THREE_LAYERS):
    return {name.encode(): tensor for name, tensor in model.state_dict().items()}


UNNAMED = {
    "numbers": numbered(),
    "numbers of two layers": numbered(SimpleNet(12, 8, 3)),
    "numbers in a dict": {"model": numbered(), "epoch": 3},
    "numbers beside text": {**numbered(), "epoch": 3, "lr": torch.tensor(0.1)},
    "numbers deep down": {"a.b": [{"it's": {7: numbered()}}]},
    "bytes": in_bytes(),
    "bytes in a dict": {"model": in_bytes(), "epoch": 3},
    "bytes beside text": {**in_bytes(), "epoch": 3},
}


@pytest.mark.parametrize("form", UNNAMED)
def test_the_command_names_the_weights(tmp_path, form):
    path = tmp_path / "their weights.pt"
    torch.save(UNNAMED[form], path)
    with pytest.raises(NotACheckpointError, match="found keys of type") as caught:
        load_any(path)
    command = re.search(r"name them: python (-c .*), and name 'named.pt'$", str(caught.value))
    assert command is not None, caught.value
    environment = {**os.environ, "PYTHON": sys.executable}
    subprocess.run(["sh", "-c", f'"$PYTHON" {command[1]}'], cwd=tmp_path, env=environment, check=True)
    found = load_any(tmp_path / "named.pt").model.state_dict()
    assert [tuple(t.shape) for t in found.values()][:2] == [(8, 12), (8,)]
    assert len(found) == (4 if "two" in form else 6)


def test_shapes_that_do_not_alternate_are_named_by_hand():
    error = no_weights({"model": {0: torch.zeros(2, 3), 1: torch.zeros(4, 3)}}, "m.pt")
    assert "name them by hand" in str(error)
    assert "w = torch.load('m.pt', 'cpu', weights_only=True)['model']; " in str(error)
    assert "python -c" not in str(error)


@pytest.mark.parametrize("contents", [{"shadow_params": [*numbered().values()], "decay": 0.9}, [*numbered().values()]])
def test_a_list_of_tensors_is_called_one(contents):
    error = str(no_weights(contents, "m.pt"))
    assert "found a list of tensors without names" in error
    assert error.endswith("save model.state_dict()")


def test_what_differs_from_the_network_is_listed():
    stored = {"module.fc1.weight": torch.zeros(8, 5), "module.fc1.bias": torch.zeros(8), "module.out": torch.zeros(1)}
    wanted = {"fc1.weight": torch.zeros(8, 4), "fc1.bias": torch.zeros(8), "fc2.weight": torch.zeros(3, 8)}
    error = str(no_fit(Candidate("net", stored), "m.pt", "Net", wanted))
    assert error.startswith(
        "m.pt: the weights at 'net' do not fit Net: missing 'fc2.weight'; unexpected 'out'; "
        "of another shape 'fc1.weight (8, 5) instead of (8, 4)'; "
    )
    assert "--model-config" in error


def test_a_prefix_of_all_names_does_not_hide_what_differs():
    stored = {"net.fc1.weight": torch.zeros(8, 4), "net.fc1.bias": torch.zeros(8)}
    wanted = {"fc1.weight": torch.zeros(8, 4), "fc1.bias": torch.zeros(8), "fc2.weight": torch.zeros(3, 8)}
    error = str(no_fit(Candidate("", stored), "m.pt", "Net", wanted))
    assert "missing 'fc2.weight'; unexpected none; of another shape none" in error


def test_without_the_network_it_says_what_was_found():
    error = str(no_fit(Candidate("", {"a": torch.zeros(2, 3)}), "m.pt", "Net"))
    assert error.startswith("m.pt: the weights in it do not fit Net: found a (2, 3); ")
    assert "--model-class" in error
