"""Golden samples: a few rows with the logits that the network computed for them when it was saved.

They show whether the code still computes the same: replayed on any device, they must give the same logits. The rows are
raw, as requests bring them: the replay goes through the preprocessing too. "Logits" are the network's outputs here,
even if those are probabilities.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from simplenet.errors import CheckpointError, GoldenMismatchError, NotACheckpointError
from simplenet.preprocessing import PLAIN, InputSpec, check_output
from simplenet.text import shortened

GOLDEN_SAMPLES = 8
# Largest difference allowed in a golden logit, relative to the largest logit: about 100 roundings of each dtype.
GOLDEN_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}


def make_golden(model: nn.Module, inputs: torch.Tensor, spec: InputSpec = PLAIN) -> dict[str, torch.Tensor]:
    """Record the network's logits for these inputs.

    Args:
        model: the network, on any device; its mode does not change.
        inputs: `(samples, input_size)` float, before preprocessing.
        spec: how rows become the network's input.

    Returns:
        `inputs` `(samples, input_size)` float32 and `logits` `(samples, num_classes)` float32, on the CPU.

    Raises:
        CheckpointError: the network cannot predict the rows, or a logit is NaN or infinite.

    Example:
        >>> model = nn.Linear(4, 3)
        >>> golden = make_golden(model, random_rows(4))
        >>> {name: tuple(tensor.shape) for name, tensor in golden.items()}
        {'inputs': (8, 4), 'logits': (8, 3)}
        >>> verify_golden(model, golden, "model.pt")
        0.0
    """
    try:
        logits = _logits(model, inputs, spec)
    except CheckpointError:
        raise
    except Exception as error:  # a user's network may raise anything
        shape = (len(inputs), *(spec.shape or inputs.shape[1:]))
        raise CheckpointError(
            f"{type(model).__name__}: cannot predict rows of shape {shape}: {type(error).__name__}: {error}; "
            "give the shape that one row has before the network as input_shape"
        ) from error
    if logits.ndim != 2 or len(logits) != len(inputs):
        raise CheckpointError(
            f"{type(model).__name__}: expected outputs of shape ({len(inputs)}, num_classes), "
            f"found {tuple(logits.shape)}"
        )
    if not torch.isfinite(logits).all():
        raise CheckpointError("the network's logits are NaN or infinite: it cannot be saved for inference")
    return {"inputs": inputs.detach().float().cpu().clone(), "logits": logits}


def verify_golden(
    model: nn.Module,
    golden: Mapping[str, torch.Tensor],
    source: str,
    spec: InputSpec = PLAIN,
    output: str | None = None,
) -> float:
    """Replay the golden samples on the model's device; `spec` and `output` are what the checkpoint says.

    Returns:
        The largest difference in a logit, relative to the largest logit.

    Raises:
        GoldenMismatchError: it exceeds the tolerance of the model's dtype, the network cannot predict the samples, or
            the logits cannot be what `output` says.
        NotACheckpointError: the golden samples do not have the form that `make_golden` returns.
    """
    inputs, expected = _golden_pair(golden, source)
    try:
        logits = _logits(model, inputs, spec)
    except Exception as error:  # a user's network may raise anything
        raise GoldenMismatchError(
            f"{source}: the network cannot predict its golden samples of shape {tuple(inputs.shape)}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if logits.shape != expected.shape:
        raise GoldenMismatchError(
            f"{source}: golden samples: expected logits of shape {tuple(expected.shape)}, found {tuple(logits.shape)}"
        )
    scale = max(float(expected.abs().max()), 1e-6)
    difference = float((logits - expected).abs().max()) / scale
    dtype = next(model.parameters()).dtype
    tolerance = GOLDEN_TOLERANCE.get(dtype, 1e-4)
    if not difference <= tolerance:  # also true when the difference is NaN
        raise GoldenMismatchError(
            f"{source}: the network gives its golden samples other logits than when it was saved: largest relative "
            f"difference {difference:.3g}, allowed {tolerance:g}; code and weights have drifted apart"
            + ("" if spec.is_plain else ", or the preprocessing was changed")
        )
    if output is not None:
        check_output(expected, output, source, dtype)
    return difference


def random_rows(input_size: int, samples: int = GOLDEN_SAMPLES) -> torch.Tensor:
    """Random rows, uniform over 0..1 and the same on every call: `(samples, input_size)` float32."""
    return torch.rand(samples, input_size, generator=torch.Generator().manual_seed(0))


def _golden_pair(golden: Any, source: str) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, logits = (golden.get("inputs"), golden.get("logits")) if isinstance(golden, Mapping) else (None, None)
    if isinstance(inputs, torch.Tensor) and isinstance(logits, torch.Tensor):
        pair = inputs.ndim == 2 and logits.ndim == 2 and len(inputs) == len(logits) > 0
        if pair and inputs.is_floating_point() and logits.is_floating_point():
            return inputs, logits
        described = " and ".join(f"{part.dtype} {shortened(tuple(part.shape))}" for part in (inputs, logits))
    else:
        described = "something else"
    raise NotACheckpointError(
        f"{source}: golden: expected inputs and logits, floats with one row per sample, found {described}"
    )


def _logits(model: nn.Module, inputs: torch.Tensor, spec: InputSpec) -> torch.Tensor:
    """Logits of raw rows in eval mode, `(samples, num_classes)` float32 on the CPU."""
    weight = next(model.parameters(), None)
    if weight is None:
        raise CheckpointError(f"{type(model).__name__}: expected a network with weights, found none")
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), _whole_float32(weight.device):
            logits: torch.Tensor = model(spec.for_network(inputs, weight.device, weight.dtype))
    finally:
        model.train(was_training)
    return logits.float().cpu().clone()


@contextmanager
def _whole_float32(device: torch.device) -> Iterator[None]:
    """On a GPU, convolutions in all of float32: in TF32, the default, sound code would seem to have drifted."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed and device.type != "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allowed
