"""Read the weights of any file that holds some, and note what it lacks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from simplenet.checkpoint.file import read_checkpoint
from simplenet.checkpoint.keys import CONTENT_HASH, GOLDEN, METADATA, MODEL_CONFIG
from simplenet.checkpoint.prefixes import without_prefixes
from simplenet.checkpoint.state_dict import find_state_dict, fitting_config
from simplenet.content_hash import verify_hash
from simplenet.paths import PathLike


@dataclass(frozen=True)
class Weights:
    """What a file holds, under the bare network's names."""

    source: str
    state_dict: dict[str, torch.Tensor]
    model_config: dict[str, Any] | None  # stored, or else inferred from the shapes
    checkpoint: dict[str, Any]  # all that was in the file, as it was
    stored_name: str | None  # the file's name for the first weight, where it is not the bare network's
    findings: tuple[str, ...]  # what is missing or unusual, each in one line

    @property
    def metadata(self) -> dict[str, Any]:
        """The stored metadata, or none."""
        metadata = self.checkpoint.get(METADATA)
        return metadata if isinstance(metadata, dict) else {}


def read_weights(path: PathLike, device: str | torch.device = "cpu", *, mapped: bool = False) -> Weights:
    """Read the weights of any file that holds some, and note what is missing or unusual; `mapped` as for
    `read_checkpoint`.

    Raises:
        CheckpointError: the file cannot be read, holds no weights, or they do not match the hash it carries.
    """
    return weights_in(read_checkpoint(path, device, mapped=mapped), str(path))


def weights_in(checkpoint: dict[str, Any], source: str) -> Weights:
    """`read_weights` of a file that was read already."""
    stored = find_state_dict(checkpoint, source)
    findings = []
    metadata = checkpoint.get(METADATA)
    stored_hash = metadata.get(CONTENT_HASH) if isinstance(metadata, Mapping) else None
    if isinstance(stored_hash, str):
        verify_hash(stored, stored_hash, source)
    else:
        findings.append("no content hash: whether the weights are whole cannot be known")
    state_dict = without_prefixes(stored, source)
    stored_name = next(iter(stored)) if list(state_dict) != list(stored) else None
    if stored_name:
        findings.append(f"names are wrapped: {stored_name!r} stands for {next(iter(state_dict))!r}")
    config = checkpoint.get(MODEL_CONFIG)
    if not isinstance(config, dict):
        config = fitting_config(state_dict)
        inferred = f"the weights fit {config}" if config else "and the weights fit no SimpleNet"
        findings.append(f"no model_config: {inferred}")
    if GOLDEN not in checkpoint:
        findings.append("no golden samples: whether the code still agrees cannot be known")
    return Weights(source, state_dict, config, checkpoint, stored_name, tuple(findings))
