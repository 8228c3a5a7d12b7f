"""Verify a loaded checkpoint without running foreign code: hash, shapes and golden samples."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from simplenet.checkpoint.entries import required_entries, stored_hash
from simplenet.checkpoint.keys import CONTENT_HASH, GOLDEN, METADATA, MODEL_CONFIG, MODEL_STATE_DICT
from simplenet.checkpoint.rebuild import rebuild
from simplenet.checkpoint.served import replay
from simplenet.checkpoint.weights import Weights, weights_in
from simplenet.content_hash import verify_hash
from simplenet.errors import NotACheckpointError
from simplenet.model import is_foreign


@dataclass(frozen=True)
class Replay:
    """The golden samples run through the rebuilt network, or why they were not."""

    samples: int = 0
    difference: float = 0.0  # the largest difference in a logit, relative to the largest logit
    skipped: str = ""  # the reason, if they were not run

    def __str__(self) -> str:
        return self.skipped or f"{self.samples} samples agree, largest relative difference {self.difference:.2g}"


@dataclass(frozen=True)
class Verification:
    """A checkpoint whose hash, shapes and golden samples match, as far as present and checkable."""

    weights: Weights
    replay: Replay

    @property
    def findings(self) -> tuple[str, ...]:
        """What the file lacks, one line each; empty if everything was verified."""
        return self.weights.findings


def verify(checkpoint: Any, source: str, model_file: str | None = None) -> Verification:
    """Verify all that can be verified without running foreign code.

    Args:
        checkpoint: what `read_contents` returned.
        source: its name in messages.
        model_file: the Python module of the network in an archive; such a network is not rebuilt.

    Raises:
        CheckpointError: there are no weights, or the hash, the shapes or the golden samples do not match.
        ConfigError: the stored model_config cannot rebuild the network.

    Example:
        >>> from simplenet.checkpoint.save import inference_checkpoint
        >>> from simplenet.model import SimpleNet
        >>> str(verify(inference_checkpoint(SimpleNet(4, 8, 3)), "model.pt").replay)
        '8 samples agree, largest relative difference 0'
    """
    weights = weights_in(checkpoint, source)
    return Verification(weights, _replay(weights, model_file))


def require_whole(source: str, findings: Sequence[str]) -> None:
    """Refuse to serve a file with findings.

    Raises:
        NotACheckpointError: names them, and the remedy.
    """
    if findings:
        raise NotACheckpointError(
            f"{source}: {'; '.join(findings)}; make a complete checkpoint of it: "
            f"simplenet repair {shlex.quote(source)} whole.pt"
        )


def verified_parts(checkpoint: Mapping[str, Any], source: str) -> tuple[dict[str, torch.Tensor], Any, dict[str, Any]]:
    """The state_dict (its hash verified), model_config and metadata of a checkpoint.

    Raises:
        CheckpointError: one of them is missing, or the weights are not the ones that were saved.
    """
    state_dict, config, metadata = required_entries(checkpoint, source, MODEL_STATE_DICT, MODEL_CONFIG, METADATA)
    if (expected := stored_hash(metadata)) is None:
        raise NotACheckpointError(f"{source}: metadata[{CONTENT_HASH!r}]: expected a SHA-256, found none")
    verify_hash(state_dict, expected, source)
    return state_dict, config, metadata


def _replay(weights: Weights, model_file: str | None) -> Replay:
    """Rebuild a registered network and replay its golden samples; other networks are not run."""
    if model_file:
        return Replay(skipped=f"not replayed: the network is in {model_file}, which inspect does not run")
    if weights.model_config is None:
        return Replay(skipped="not replayed: there is no model_config")
    if is_foreign(weights.model_config):
        return Replay(skipped="not replayed: the network is not a registered one")
    model = rebuild(weights.model_config, weights.state_dict, weights.source)
    golden = weights.checkpoint.get(GOLDEN)
    if golden is None:
        return Replay(skipped="none")
    difference = replay(model, weights.checkpoint, weights.source)
    return Replay(len(golden["inputs"]), difference)
