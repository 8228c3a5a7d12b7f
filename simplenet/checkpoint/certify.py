"""How exact are a checkpoint's answers? Each number format and device, measured against float64 on the CPU."""

import copy
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

import torch
from torch import nn

from simplenet.checkpoint import restore
from simplenet.checkpoint.file import read_checkpoint, write_checkpoint
from simplenet.checkpoint.keys import CERTIFICATE, CONTENT_HASH, GOLDEN, METADATA, PYTORCH_VERSION, TIMESTAMP
from simplenet.errors import CheckpointError
from simplenet.integrity import random_rows
from simplenet.manifest import is_archive
from simplenet.paths import PathLike
from simplenet.text import dtype_name

RANDOM_ROWS = 256
DTYPES = (torch.float32, torch.bfloat16)


def certify(path: PathLike, network: Callable[..., nn.Module] | None = None) -> dict[str, Any]:
    """Measure a checkpoint's largest errors and keep the table in its metadata, as `certificate`.

    Every measurement answers the golden samples and 256 random rows (even in 0..1, the same every time) with the
    weights and the inputs rounded to its dtype, as they are when it is served, and is compared with the stored
    weights in float64 on the CPU. The file is replaced whole; all else in it, the content hash too, stays.

    Args:
        path: a checkpoint saved for inference, `.pt` or `.safetensors`.
        network: the class of the network, where it is not registered.

    Returns:
        `timestamp` (UTC), `pytorch_version`, `content_hash` of the weights that were measured, and `rows`: for each
        set of inputs, device and dtype a dict with `inputs` (`golden` or `random`), `samples`, `device`, `dtype`,
        `logit_error` (largest absolute), `relative_error` (that, as a share of the largest float64 logit),
        `probability_error` (largest absolute) and `top1_agreement` (share of samples, 0..1).

    Raises:
        CheckpointError: an archive, or a file that does not load and verify; or the network cannot answer in a
            dtype, or answers NaN.
        ConfigError: the stored model_config cannot rebuild the network.
    """
    source = str(path)
    checkpoint = read_checkpoint(path)
    if is_archive(path):
        raise CheckpointError(f"{source}: expected a checkpoint, found an archive: certify first, then archive")
    model = restore(checkpoint, "cpu", source, network)
    golden = checkpoint[GOLDEN]["inputs"]
    inputs = {"golden": golden, "random": random_rows(golden.shape[1], RANDOM_ROWS)}
    certificate = {
        TIMESTAMP: datetime.now(timezone.utc).isoformat(timespec="seconds"),
        PYTORCH_VERSION: str(torch.__version__),
        CONTENT_HASH: checkpoint[METADATA][CONTENT_HASH],
        "rows": list(_measure(model, inputs, source)),
    }
    metadata = {**checkpoint[METADATA], CERTIFICATE: certificate}
    write_checkpoint({**checkpoint, METADATA: metadata}, path)
    return certificate


def _measure(model: nn.Module, inputs: dict[str, torch.Tensor], source: str) -> Iterator[dict[str, Any]]:
    exact = _answers(model, inputs, "cpu", torch.float64, source)
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        for dtype in DTYPES:
            found = _answers(model, inputs, device, dtype, source)
            for name, logits in found.items():
                yield {
                    "inputs": name,
                    "samples": len(logits),
                    "device": device if device == "cpu" else torch.cuda.get_device_name(),
                    "dtype": dtype_name(dtype),
                    **_errors(logits, exact[name]),
                }


def _answers(
    model: nn.Module, inputs: dict[str, torch.Tensor], device: str, dtype: torch.dtype, source: str
) -> dict[str, torch.Tensor]:
    """Logits for each set of inputs, computed by a copy of the network in `dtype`, `(samples, classes)` float64."""
    what = f"{str(dtype).removeprefix('torch.')} on {device}"
    try:
        with torch.inference_mode():
            converted = copy.deepcopy(model).to(device, dtype)
            answers = {name: converted(rows.to(device, dtype)).double().cpu() for name, rows in inputs.items()}
    except Exception as error:  # a user's network may raise anything
        raise CheckpointError(
            f"{source}: the network cannot answer in {what}: {type(error).__name__}: {error}"
        ) from error
    if not all(logits.isfinite().all() for logits in answers.values()):
        raise CheckpointError(f"{source}: the network's answers in {what} are NaN or infinite")
    return answers


def _errors(logits: torch.Tensor, exact: torch.Tensor) -> dict[str, float]:
    """How far logits `(samples, classes)` are from the exact ones; both float64."""
    logit_error = float((logits - exact).abs().max())
    return {
        "logit_error": logit_error,
        "relative_error": logit_error / max(float(exact.abs().max()), torch.finfo(torch.float64).tiny),
        "probability_error": float((logits.softmax(1) - exact.softmax(1)).abs().max()),
        "top1_agreement": float((logits.argmax(1) == exact.argmax(1)).double().mean()),
    }
