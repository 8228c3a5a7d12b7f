"""Verification says what was checked and what could not be, and runs no code of the file's own."""

import pytest
import torch

from simplenet.checkpoint import inference_checkpoint
from simplenet.checkpoint.verify import Replay, require_whole, verify
from simplenet.errors import (
    GoldenMismatchError,
    HashMismatchError,
    NotACheckpointError,
    ShapeMismatchError,
)
from simplenet.model import SimpleNet


@pytest.fixture
def checkpoint() -> dict:
    torch.manual_seed(0)
    return inference_checkpoint(SimpleNet(6, 4, 3))


def test_a_whole_checkpoint_is_verified_and_replayed(checkpoint):
    verified = verify(checkpoint, "net.pt")
    assert verified.replay == Replay(samples=8, difference=0.0)
    assert str(verified.replay) == "8 samples agree, largest relative difference 0"
    assert verified.findings == ()
    require_whole("net.pt", verified.findings)


@pytest.mark.parametrize(
    ("entries", "model_file", "reason"),
    [
        ({"golden": ...}, None, "none"),
        ({"model_config": {"width": 4, "architecture": "Elsewhere"}}, None, "not replayed: the network is not a reg"),
        ({}, "my_net.py", "not replayed: the network is in my_net.py, which inspect does not run"),
    ],
)
def test_a_network_that_is_not_run_says_why(checkpoint, entries, model_file, reason):
    changed = {key: value for key, value in {**checkpoint, **entries}.items() if value is not ...}
    replay = verify(changed, "net.pt", model_file).replay
    assert replay.samples == 0
    assert replay.skipped.startswith(reason)
    assert str(replay) == replay.skipped


def test_a_plain_state_dict_is_verified_as_far_as_it_goes_and_not_served():
    verified = verify({"only.weight": torch.zeros(2, 2)}, "net.pt")
    assert verified.replay.skipped == "not replayed: there is no model_config"
    assert len(verified.findings) == 3
    with pytest.raises(
        NotACheckpointError, match=r"net\.pt: no model_config.*no content hash.*no golden.*simplenet repair"
    ):
        require_whole("net.pt", verified.findings)


def other_weights(checkpoint):
    checkpoint["model_state_dict"]["fc1.bias"][0] += 1


def other_logits(checkpoint):
    checkpoint["golden"]["logits"] += 1


def other_sizes(checkpoint):
    checkpoint["model_config"]["hidden_size"] = 5


def absurd_sizes(checkpoint):
    checkpoint["model_config"].update(input_size=2**24, hidden_size=2**24)


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (other_weights, HashMismatchError),
        (other_logits, GoldenMismatchError),
        (other_sizes, ShapeMismatchError),
        (absurd_sizes, ShapeMismatchError),  # a petabyte, were it allocated
    ],
)
def test_what_does_not_match_is_refused(checkpoint, damage, kind):
    damage(checkpoint)
    with pytest.raises(kind, match=r"^net\.pt: "):
        verify(checkpoint, "net.pt")
