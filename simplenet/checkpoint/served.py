"""How the network of a checkpoint is served: what lies between rows and the network, and what its outputs are.

The golden samples replay it. A trained network is sensitive to what its rows went through, but not to every last digit,
so the metadata has a hash over it too.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import torch
from torch import nn

from simplenet.checkpoint.keys import (
    CERTIFICATE,
    GOLDEN,
    INPUT_SHAPE,
    METADATA,
    OUTPUT,
    PREPROCESSING,
    SERVED_HASH,
)
from simplenet.errors import HashMismatchError
from simplenet.golden import make_golden, random_rows, verify_golden
from simplenet.preprocessing import LOGITS, InputSpec, check_output, detect_output, output_of, stated_output

_SERVED = (INPUT_SHAPE, PREPROCESSING, OUTPUT)


def served_entries(
    model: nn.Module, golden_inputs: torch.Tensor, spec: InputSpec, output: str | None = None
) -> dict[str, Any]:
    """The entries that say how a network is served: golden samples, input shape, preprocessing, output.

    Args:
        model: the network.
        golden_inputs: `(samples, input_size)` float, before preprocessing.
        spec: how rows become the network's input.
        output: what it returns; by default what the golden outputs plainly are.

    Raises:
        CheckpointError: the network cannot predict the rows, or not what `output` says.
        ConfigError: `output` is not a word for outputs.
    """
    golden = make_golden(model, golden_inputs.flatten(1) if golden_inputs.ndim > 2 else golden_inputs, spec)
    dtype = next(model.parameters()).dtype
    if output is None:
        output, _ = detect_output(golden["logits"], dtype)
    check_output(golden["logits"], output, type(model).__name__, dtype)
    return {GOLDEN: golden, **spec.entries(), **({} if output == LOGITS else {OUTPUT: output})}


def with_served_hash(metadata: Mapping[str, Any], entries: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata with the hash over the entries that `served_entries` returned, if they say anything."""
    kept = {key: value for key, value in metadata.items() if key != SERVED_HASH}
    said = {key: entries[key] for key in _SERVED if key in entries}
    return {**kept, SERVED_HASH: _digest(said)} if said else kept


def replay(model: nn.Module, checkpoint: Mapping[str, Any], source: str) -> float:
    """Replay a checkpoint's golden samples as its rows are served, on the model's device.

    Returns:
        The largest difference in a logit, relative to the largest logit.

    Raises:
        GoldenMismatchError: the network computes something else, or its outputs are not what the checkpoint says.
        HashMismatchError: input shape, preprocessing or output are not those that were saved.
        NotACheckpointError: golden samples or one of these are missing or of another form.

    Example:
        >>> from simplenet import SimpleNet
        >>> from simplenet.checkpoint.save import inference_checkpoint
        >>> model = SimpleNet(4, 8, 3)
        >>> replay(model, inference_checkpoint(model, preprocessing={"scale": 2}), "model.pt")
        0.0
    """
    spec, output = InputSpec.from_checkpoint(checkpoint, source), stated_output(checkpoint, source)
    difference = verify_golden(model, checkpoint.get(GOLDEN, {}), source, spec, output)
    metadata = checkpoint.get(METADATA)
    stored = metadata.get(SERVED_HASH) if isinstance(metadata, Mapping) else None
    found = _digest({**spec.entries(), **({} if output is None else {OUTPUT: output})})
    if stored is not None and stored != found:
        raise HashMismatchError(
            f"{source}: input_shape, preprocessing or output: expected SHA-256 {str(stored)[:12]}… as saved, found "
            f"{found[:12]}…; save the network again"
        )
    return difference


def restated(
    checkpoint: Mapping[str, Any],
    model: nn.Module,
    source: str,
    *,
    input_shape: Sequence[int] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    output: str | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """The checkpoint with another input shape, preprocessing or output, and its golden samples recorded anew.

    Args:
        checkpoint: complete and verified.
        model: its network.
        source: its name in messages.
        input_shape: replaces the stored one, if given.
        preprocessing: its entries replace those of the same name, if given.
        output: replaces the stored one, if given.

    Returns:
        The checkpoint, and what changed, one line each; none if all was so already.

    Raises:
        CheckpointError: the network cannot predict such rows, or its outputs are not what `output` says.
        ConfigError: one of them is impossible.

    Example:
        >>> from simplenet import SimpleNet
        >>> from simplenet.checkpoint.save import inference_checkpoint
        >>> model = SimpleNet(4, 8, 3)
        >>> _, changes = restated(inference_checkpoint(model), model, "model.pt", preprocessing={"scale": 255})
        >>> changes
        ["preprocessing {'scale': 255.0, 'mean': [0.0], 'std': [1.0]} instead of none", 'golden samples recorded anew']
    """
    stored = InputSpec.from_checkpoint(checkpoint, source)
    steps = {**(checkpoint.get(PREPROCESSING) or {}), **(preprocessing or {})}
    spec = InputSpec.of(checkpoint.get(INPUT_SHAPE) if input_shape is None else input_shape, steps)
    if spec == stored and output in (None, output_of(checkpoint, source)):
        return dict(checkpoint), []
    rows = checkpoint[GOLDEN]["inputs"]
    if spec.size not in (None, rows.shape[1]):
        rows = random_rows(spec.size)
    served = served_entries(model, rows, spec, output or checkpoint.get(OUTPUT))
    changes = [
        f"{key} {served.get(key, 'none')} instead of {checkpoint.get(key, 'none')}"
        for key in _SERVED
        if served.get(key) != checkpoint.get(key)
    ]
    kept = {key: value for key, value in checkpoint.items() if key not in _SERVED}
    metadata = {key: value for key, value in checkpoint[METADATA].items() if key != CERTIFICATE}
    if CERTIFICATE in checkpoint[METADATA]:
        changes.append("left out the certificate, which measured other inputs")
    return {**kept, METADATA: with_served_hash(metadata, served), **served}, [*changes, "golden samples recorded anew"]


def _digest(said: Mapping[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()
