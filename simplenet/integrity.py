"""Two questions asked before a checkpoint is trusted: are these the weights, and does the code still agree?

The content hash answers the first, the golden samples the second: a few inputs with the logits that the network
gave when it was saved.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from simplenet.errors import CheckpointError, GoldenMismatchError, HashMismatchError, NotACheckpointError
from simplenet.text import dtype_name

GOLDEN_SAMPLES = 8
# Largest difference allowed in a golden logit, relative to the largest logit: some 100 roundings of each dtype.
GOLDEN_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}


def content_hash(state_dict: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over every tensor's name, dtype, shape and raw bytes, in sorted order of the names.

    For each tensor: the JSON list `[name, dtype, shape]`, a newline, then the bytes in row-major order. The list
    fixes how many bytes follow, so no two different state_dicts feed the hash the same stream.

    Returns:
        64 hexadecimal digits.

    Raises:
        CheckpointError: an entry is not a dense tensor.
    """
    if not isinstance(state_dict, Mapping) or not all(isinstance(name, str) for name in state_dict):
        raise CheckpointError(f"state_dict: expected a dict of named tensors, found {type(state_dict).__name__}")
    digest = hashlib.sha256()
    for name in sorted(state_dict):
        tensor = state_dict[name]
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
            raise CheckpointError(f"state_dict[{name!r}]: expected a dense tensor, found {type(tensor).__name__}")
        dtype = dtype_name(tensor.dtype)
        digest.update(json.dumps([name, dtype, list(tensor.shape)]).encode() + b"\n")
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def tensor_bytes(tensor: torch.Tensor) -> memoryview:
    """The raw bytes of a dense tensor in row-major order; a view of its memory where that is on the CPU and so laid."""
    dense = tensor.detach().cpu().contiguous()
    flat = dense.as_strided((dense.numel(),), (1,))  # not reshape: a single element may keep a stride of its own
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")


def verify_hash(state_dict: Mapping[str, torch.Tensor], expected: str, source: str) -> None:
    """Compare the weights with the hash they were saved with.

    Raises:
        HashMismatchError: they differ.
    """
    found = content_hash(state_dict)
    if found != expected:
        raise HashMismatchError(
            f"{source}: the weights are not the ones that were saved: content hash expected {expected[:12]}…, "
            f"found {found[:12]}…; restore the file from its source"
        )


def make_golden(model: nn.Module, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    """Record what the network answers.

    Args:
        model: the network, on any device; its mode is left as it was.
        inputs: `(samples, input_size)` float.

    Returns:
        `inputs` `(samples, input_size)` float32 and `logits` `(samples, num_classes)` float32, on the CPU.

    Raises:
        CheckpointError: a logit is NaN or infinite.
    """
    logits = _answer(model, inputs)
    if not torch.isfinite(logits).all():
        raise CheckpointError("the network's answers are NaN or infinite: it cannot be saved for inference")
    return {"inputs": inputs.detach().float().cpu().clone(), "logits": logits}


def verify_golden(model: nn.Module, golden: Mapping[str, torch.Tensor], source: str) -> float:
    """Replay the golden samples on the model's device.

    Returns:
        The largest difference of a logit, as a share of the largest logit.

    Raises:
        GoldenMismatchError: it is over the tolerance of the model's dtype, or the network cannot take the samples.
        NotACheckpointError: the golden samples are not what `make_golden` makes.
    """
    inputs, expected = _golden_pair(golden, source)
    try:
        found = _answer(model, inputs)
    except Exception as error:  # a user's network may raise anything
        raise GoldenMismatchError(
            f"{source}: the network cannot answer its golden samples of shape {tuple(inputs.shape)}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if found.shape != expected.shape:
        raise GoldenMismatchError(
            f"{source}: golden samples: expected logits of shape {tuple(expected.shape)}, found {tuple(found.shape)}"
        )
    scale = max(float(expected.abs().max()), 1e-6)
    difference = float((found - expected).abs().max()) / scale
    tolerance = GOLDEN_TOLERANCE.get(_dtype_of(model), 1e-4)
    if not difference <= tolerance:  # also true when the difference is NaN
        raise GoldenMismatchError(
            f"{source}: the network answers its golden samples differently from when it was saved: largest relative "
            f"difference {difference:.3g}, allowed {tolerance:g}; code and weights have drifted apart"
        )
    return difference


def random_rows(input_size: int, samples: int = GOLDEN_SAMPLES) -> torch.Tensor:
    """The same rows every time, evenly spread over 0..1: `(samples, input_size)` float32."""
    return torch.rand(samples, input_size, generator=torch.Generator().manual_seed(0))


def _golden_pair(golden: Any, source: str) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, logits = (golden.get("inputs"), golden.get("logits")) if isinstance(golden, Mapping) else (None, None)
    if isinstance(inputs, torch.Tensor) and isinstance(logits, torch.Tensor):
        pair = inputs.ndim == 2 and logits.ndim == 2 and len(inputs) == len(logits) > 0
        if pair and inputs.is_floating_point() and logits.is_floating_point():
            return inputs, logits
        found = f"{inputs.dtype} {tuple(inputs.shape)} and {logits.dtype} {tuple(logits.shape)}"
    else:
        found = "something else"
    raise NotACheckpointError(f"{source}: golden: expected inputs and logits of as many rows of floats, found {found}")


def _answer(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Logits in eval mode, `(samples, num_classes)` float32 on the CPU."""
    weight = next(model.parameters(), None)
    if weight is None:
        raise CheckpointError(f"{type(model).__name__}: expected a network with weights, found none")
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            logits: torch.Tensor = model(inputs.to(weight.device, weight.dtype))
    finally:
        model.train(was_training)
    return logits.float().cpu().clone()


def _dtype_of(model: nn.Module) -> torch.dtype:
    return next(model.parameters()).dtype
