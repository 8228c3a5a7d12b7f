"""Read the weights of any file that holds some, and list what it lacks."""

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
    """The contents of a file, with the weights under the bare network's names."""

    source: str
    state_dict: dict[str, torch.Tensor]
    model_config: dict[str, Any] | None  # stored, or inferred from the shapes
    checkpoint: dict[str, Any]  # the contents of the file, unchanged
    stored_name: str | None  # the file's name for the first weight, if the bare network has another
    findings: tuple[str, ...]  # what is missing or unusual, one line each

    @property
    def metadata(self) -> dict[str, Any]:
        """The stored metadata, or an empty dict."""
        metadata = self.checkpoint.get(METADATA)
        return metadata if isinstance(metadata, dict) else {}


def read_weights(path: PathLike, device: str | torch.device = "cpu", *, mapped: bool = False) -> Weights:
    """Read the weights of any file, and list what is missing or unusual; `mapped` as for `read_checkpoint`.

    Raises:
        CheckpointError: the file cannot be read, holds no weights, or its weights do not match its hash.
    """
    return weights_in(read_checkpoint(path, device, mapped=mapped), str(path))


def weights_in(checkpoint: dict[str, Any], source: str) -> Weights:
    """`read_weights` for a file that is already read."""
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
