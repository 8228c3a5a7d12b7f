"""Correct what a checkpoint says about the input and output of its network."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from simplenet.checkpoint.keys import CERTIFICATE, GOLDEN, INPUT_SHAPE, METADATA, OUTPUT, PREPROCESSING
from simplenet.checkpoint.save import served_entries
from simplenet.golden import random_rows
from simplenet.preprocessing import InputSpec, output_of

_SERVED = (INPUT_SHAPE, PREPROCESSING, OUTPUT)


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
    if len(metadata) < len(checkpoint[METADATA]):
        changes.append("left out the certificate, which measured other inputs")
    return {**kept, METADATA: metadata, **served}, [*changes, "golden samples recorded anew"]
