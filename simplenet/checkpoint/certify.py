"""Measure how exact a checkpoint's logits are: each dtype and device against float64 on the CPU."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

import torch
from torch import nn

from simplenet.checkpoint.adopt import Given
from simplenet.checkpoint.file import write_checkpoint
from simplenet.checkpoint.keys import CERTIFICATE, CONTENT_HASH, GOLDEN, METADATA, PYTORCH_VERSION, TIMESTAMP
from simplenet.checkpoint.load import load_any
from simplenet.errors import CheckpointError
from simplenet.golden import random_rows
from simplenet.manifest import is_archive
from simplenet.paths import PathLike
from simplenet.preprocessing import InputSpec, output_of, probabilities
from simplenet.text import dtype_name

RANDOM_ROWS = 256
DTYPES = (torch.float32, torch.bfloat16)


@dataclass(frozen=True)
class Measurement:
    """How far the logits for one set of inputs, on one device and in one dtype, are from the exact ones."""

    inputs: str  # "golden" or "random"
    samples: int
    device: str
    dtype: str
    logit_error: float  # largest absolute
    relative_error: float  # logit_error over the largest float64 logit
    probability_error: float  # largest absolute
    top1_agreement: float  # share of samples with the same class, 0..1


@dataclass(frozen=True)
class Certificate:
    """How exact a checkpoint's logits are."""

    timestamp: str  # ISO 8601, UTC
    pytorch_version: str
    content_hash: str  # of the weights that were measured
    rows: tuple[Measurement, ...]
    notes: tuple[str, ...] = ()  # how the file was adopted; if there are any, the table is not stored in it

    def to_dict(self) -> dict[str, Any]:
        """The certificate as the metadata stores it."""
        return {
            TIMESTAMP: self.timestamp,
            PYTORCH_VERSION: self.pytorch_version,
            CONTENT_HASH: self.content_hash,
            "rows": [asdict(row) for row in self.rows],
        }


def certify(path: PathLike, network: Callable[..., nn.Module] | None = None) -> Certificate:
    """Measure a checkpoint's largest errors and store the table in its metadata, as `certificate`.

    Every measurement predicts the golden samples and 256 random rows (uniform in 0..1, the same every time) with
    weights and inputs rounded to its dtype, as in serving. The reference is the stored weights in float64 on the CPU.
    The file is replaced atomically; everything else in it stays, including the content hash. A file that was not saved
    whole is adopted, measured and left as it is.

    Args:
        path: any file that `load_model_for_inference` reads.
        network: the class of the network, if it is not registered.

    Raises:
        CheckpointError: the file is an archive, or does not load and verify; or the network cannot predict in a dtype,
            or its logits are NaN.
        ConfigError: the stored model_config cannot rebuild the network.

    Example:
        >>> from simplenet import SimpleNet, save_for_inference
        >>> save_for_inference(SimpleNet(4, 8, 3), "model.pt")
        >>> row = certify("model.pt").rows[0]
        >>> row.inputs, row.samples, row.dtype, row.relative_error < 1e-5
        ('golden', 8, 'float32', True)
    """
    source = str(path)
    adopted = load_any(path, "cpu", Given(network=network))
    if is_archive(path):
        raise CheckpointError(f"{source}: expected a checkpoint, found an archive: certify first, then archive")
    model, checkpoint = adopted.model, adopted.checkpoint
    golden = checkpoint[GOLDEN]["inputs"]
    inputs = {"golden": golden, "random": random_rows(golden.shape[1], RANDOM_ROWS)}
    spec, output = InputSpec.from_checkpoint(checkpoint, source), output_of(checkpoint, source)
    certificate = Certificate(
        timestamp=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        pytorch_version=str(torch.__version__),
        content_hash=checkpoint[METADATA][CONTENT_HASH],
        rows=tuple(_measurements(model, inputs, spec, output, source)),
        notes=adopted.notes,
    )
    if adopted.notes:
        return certificate
    metadata = {**checkpoint[METADATA], CERTIFICATE: certificate.to_dict()}
    write_checkpoint({**checkpoint, METADATA: metadata}, path)
    return certificate


def _measurements(
    model: nn.Module, inputs: dict[str, torch.Tensor], spec: InputSpec, output: str, source: str
) -> Iterator[Measurement]:
    exact = _logits(model, inputs, spec, "cpu", torch.float64, source)
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        device_name = device if device == "cpu" else torch.cuda.get_device_name()
        for dtype in DTYPES:
            for name, logits in _logits(model, inputs, spec, device, dtype, source).items():
                yield _measurement(name, device_name, dtype, logits, exact[name], output)


def _logits(
    model: nn.Module, inputs: dict[str, torch.Tensor], spec: InputSpec, device: str, dtype: torch.dtype, source: str
) -> dict[str, torch.Tensor]:
    """Logits for each set of inputs, computed by a copy of the network in `dtype`, `(samples, classes)` float64."""
    where = f"{dtype_name(dtype)} on {device}"
    try:
        with torch.inference_mode():
            converted = copy.deepcopy(model).to(device, dtype)
            prepared = {name: spec.for_network(rows, device, dtype) for name, rows in inputs.items()}
            logits = {name: converted(rows).double().cpu() for name, rows in prepared.items()}
    except Exception as error:  # a user's network may raise anything
        raise CheckpointError(
            f"{source}: the network cannot predict in {where}: {type(error).__name__}: {error}"
        ) from error
    if not all(values.isfinite().all() for values in logits.values()):
        raise CheckpointError(f"{source}: the network's logits in {where} are NaN or infinite")
    return logits


def _measurement(
    inputs: str, device: str, dtype: torch.dtype, logits: torch.Tensor, exact: torch.Tensor, output: str
) -> Measurement:
    """Compare logits `(samples, classes)` with the exact ones; both are float64."""
    logit_error = float((logits - exact).abs().max())
    return Measurement(
        inputs=inputs,
        samples=len(logits),
        device=device,
        dtype=dtype_name(dtype),
        logit_error=logit_error,
        relative_error=logit_error / max(float(exact.abs().max()), torch.finfo(torch.float64).tiny),
        probability_error=float((probabilities(logits, output) - probabilities(exact, output)).abs().max()),
        top1_agreement=float((logits.argmax(1) == exact.argmax(1)).double().mean()),
    )
