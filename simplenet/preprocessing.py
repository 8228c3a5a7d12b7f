"""What lies between a row and the network, and between its outputs and probabilities.

A checkpoint may say how its network was trained to see a row: the shape, and the numbers of a normalisation. The same
steps are applied to every row alike, whichever format it came in. Rows are what the request formats decode to: images
and uint8 arrays scaled to 0..1, JSON and raw floats as sent. So clients send pixels of 0..1 and never normalise them.

A checkpoint may also say what the network's outputs are, if they are not logits.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch

from simplenet.errors import ConfigError, DataError, GoldenMismatchError, NotACheckpointError
from simplenet.text import quoted, shortened

# The keys of a checkpoint; `checkpoint/keys.py` has all of them.
INPUT_SHAPE = "input_shape"
PREPROCESSING = "preprocessing"
OUTPUT = "output"

LOGITS, LOG_PROBABILITIES, PROBABILITIES = "logits", "log_probabilities", "probabilities"
OUTPUTS = (LOGITS, LOG_PROBABILITIES, PROBABILITIES)
_STEPS = ("scale", "mean", "std")
_MAX_SIZE = 2**24  # numbers in a row; more means a damaged file
_MAX_AXES = 64


@dataclass(frozen=True)
class InputSpec:
    """How rows become the network's input: `x * scale`, then `(x - mean) / std`, in `shape`.

    Args:
        shape: of one row before the network, or None for flat rows.
        scale: what rows are multiplied by.
        mean: empty, one value for all, or one for each entry of the shape's first axis: for each channel of an image.
        std: of the same length as `mean`.

    Example:
        >>> spec = InputSpec.of((1, 28, 28), {"mean": 0.1307, "std": 0.3081})
        >>> spec
        InputSpec(shape=(1, 28, 28), scale=1.0, mean=(0.1307,), std=(0.3081,))
        >>> spec.prepare(torch.zeros(2, 784)).shape
        torch.Size([2, 1, 28, 28])
        >>> spec.prepare(torch.full((1, 784), 0.1307)).abs().max()
        tensor(0.)
    """

    shape: tuple[int, ...] | None = None
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @classmethod
    def of(
        cls, input_shape: Sequence[int] | None = None, preprocessing: Mapping[str, Any] | None = None
    ) -> "InputSpec":
        """Read what a person or a file says; `mean` and `std` may be numbers or lists of numbers.

        Raises:
            ConfigError: names the wrong value.

        Example:
            >>> InputSpec.of((3, 32, 32), {"mean": [0.5, 0.4, 0.3], "std": 0.25}).std
            (0.25, 0.25, 0.25)
        """
        shape = None if input_shape is None else _shape(input_shape)
        if preprocessing is None:
            return cls(shape)
        if not isinstance(preprocessing, Mapping):
            raise ConfigError(f"preprocessing: expected a dict, found {type(preprocessing).__name__}")
        if unknown := [name for name in preprocessing if name not in _STEPS]:
            raise ConfigError(f"preprocessing: unknown step {quoted(unknown)}; expected {quoted(_STEPS)}")
        (scale,) = _numbers(preprocessing.get("scale", 1.0), "scale", 1)
        mean, std = (
            _numbers(preprocessing.get(name, default), name) for name, default in (("mean", 0.0), ("std", 1.0))
        )
        if scale == 0:
            raise ConfigError("preprocessing: scale: expected another number than 0, found 0")
        if min(std) <= 0:
            raise ConfigError(f"preprocessing: std: expected numbers above 0, found {min(std):g}")
        for name, values in (("mean", mean), ("std", std)):
            if len(values) not in (1, shape[0] if shape else 1):
                channels = f"or {shape[0]} (the first axis of input_shape)" if shape else "(there is no input_shape)"
                raise ConfigError(f"preprocessing: {name}: expected 1 number {channels}, found {len(values)}")
        if set(mean) == {0.0} and set(std) == {1.0}:
            return cls(shape, scale)
        length = max(len(mean), len(std))
        return cls(shape, scale, *(values * (length // len(values)) for values in (mean, std)))

    @classmethod
    def from_checkpoint(cls, checkpoint: Mapping[str, Any], source: str) -> "InputSpec":
        """What a checkpoint says; flat rows and no preprocessing if it says nothing.

        Raises:
            NotACheckpointError: it says something impossible.
        """
        try:
            return cls.of(checkpoint.get(INPUT_SHAPE), checkpoint.get(PREPROCESSING))
        except ConfigError as error:
            raise NotACheckpointError(f"{source}: {error}") from error

    @property
    def is_plain(self) -> bool:
        """Whether the network takes the rows as they are."""
        return (self.shape is None or len(self.shape) == 1) and self.scale == 1 and not self.mean

    @cached_property
    def size(self) -> int | None:
        """Numbers in a row, if the shape says so."""
        return None if self.shape is None else math.prod(self.shape)

    def entries(self) -> dict[str, Any]:
        """What a checkpoint stores: nothing of what is plain.

        Example:
            >>> InputSpec.of((1, 28, 28), {"mean": 0.1307, "std": 0.3081}).entries()
            {'input_shape': [1, 28, 28], 'preprocessing': {'scale': 1.0, 'mean': [0.1307], 'std': [0.3081]}}
            >>> InputSpec().entries()
            {}
        """
        entries: dict[str, Any] = {} if self.shape is None else {INPUT_SHAPE: list(self.shape)}
        if self.scale != 1 or self.mean:
            entries[PREPROCESSING] = {"scale": self.scale, "mean": list(self.mean or (0.0,)),
                                      "std": list(self.std or (1.0,))}  # fmt: skip
        return entries

    def prepare(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows `(n, input_size)` float to the network's input `(n, *shape)`, in the same dtype and on the same device.

        Raises:
            DataError: a row has another number of values than the shape.
        """
        if self.shape is not None:
            if rows.ndim != 2 or rows.shape[1] != self.size:
                raise DataError(
                    f"rows: expected shape (n, {self.size}) for the input shape {self.shape}, found {tuple(rows.shape)}"
                )
            rows = rows.reshape(len(rows), *self.shape)
        if self.scale != 1:
            rows = rows * self.scale
        if len(self.mean) == 1:
            return (rows - self.mean[0]) / self.std[0]
        if self.mean:
            mean, std = (_column(values, rows.ndim - 2, rows.dtype, rows.device) for values in (self.mean, self.std))
            return (rows - mean) / std
        return rows

    def for_network(self, rows: torch.Tensor, device: str | torch.device, dtype: torch.dtype) -> torch.Tensor:
        """Rows on a network's device and in its dtype: prepared in float32 or better, then rounded."""
        if self.is_plain:
            return rows.to(device, dtype)
        return self.prepare(rows.to(device, torch.promote_types(dtype, torch.float32))).to(dtype)


PLAIN = InputSpec()


def stated_output(checkpoint: Mapping[str, Any], source: str) -> str | None:
    """What a checkpoint says that its network's outputs are: one of OUTPUTS, or None if it says nothing.

    Raises:
        NotACheckpointError: it says something else.
    """
    if OUTPUT not in checkpoint:
        return None
    output = checkpoint[OUTPUT]
    if not isinstance(output, str) or output not in OUTPUTS:
        raise NotACheckpointError(f"{source}: output: expected one of {quoted(OUTPUTS)}, found {shortened(output)}")
    return output


def output_of(checkpoint: Mapping[str, Any], source: str) -> str:
    """The same, with logits for a checkpoint that says nothing."""
    return stated_output(checkpoint, source) or LOGITS


def probabilities(outputs: torch.Tensor, output: str) -> torch.Tensor:
    """The network's outputs `(n, num_classes)` as probabilities, in float32 or better; `output` says what they are.

    Example:
        >>> probabilities(torch.tensor([[0.25, 0.75]]).log(), "log_probabilities")
        tensor([[0.2500, 0.7500]])
    """
    outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
    if output == LOGITS:
        return torch.softmax(outputs, dim=1)
    return outputs.exp() if output == LOG_PROBABILITIES else outputs


def detect_output(outputs: torch.Tensor, dtype: torch.dtype = torch.float32) -> tuple[str, str]:
    """What outputs `(n, num_classes)` plainly are, and how that shows; logits where nothing shows.

    Args:
        outputs: of a network, for several rows.
        dtype: in which it computed them.

    Example:
        >>> logits = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
        >>> detect_output(logits.log_softmax(1))
        ('log_probabilities', 'each row is at most 0 and its exponentials sum to 1')
        >>> detect_output(logits.softmax(1))
        ('probabilities', 'each row is within 0..1 and sums to 1')
        >>> detect_output(logits)[0]
        'logits'
    """
    if outputs.shape[1] == 1:
        return LOGITS, "there is one class, whose probability is 1 in any case"
    if _are(LOG_PROBABILITIES, outputs, dtype):
        return LOG_PROBABILITIES, "each row is at most 0 and its exponentials sum to 1"
    if _are(PROBABILITIES, outputs, dtype):
        return PROBABILITIES, "each row is within 0..1 and sums to 1"
    return LOGITS, "the rows are neither probabilities nor logarithms of probabilities"


def check_output(outputs: torch.Tensor, output: str, source: str, dtype: torch.dtype = torch.float32) -> None:
    """Check that outputs `(n, num_classes)` can be what is stated.

    Logarithms of probabilities are logits too: softmax gives the same probabilities. Probabilities are not.

    Raises:
        ConfigError: `output` is not one of OUTPUTS.
        GoldenMismatchError: they cannot be.
    """
    if output not in OUTPUTS:
        raise ConfigError(f"output: expected one of {quoted(OUTPUTS)}, found {shortened(output)}")
    found, reason = detect_output(outputs, dtype)
    if not _are(output, outputs, dtype) or (output == LOGITS and found == PROBABILITIES):
        raise GoldenMismatchError(
            f"{source}: output: stated as {output}, found {found} in the golden samples: {reason}"
        )


def _are(output: str, outputs: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether outputs can be what the word says, within a few roundings of the dtype."""
    tolerance = max(1e-4, 4 * torch.finfo(dtype).eps)
    if output == LOG_PROBABILITIES:
        return bool((outputs <= tolerance).all() and (outputs.logsumexp(1).abs() <= tolerance).all())
    if output == PROBABILITIES:
        within = ((outputs >= -tolerance) & (outputs <= 1 + tolerance)).all()
        return bool(within and ((outputs.sum(1) - 1).abs() <= tolerance).all())
    return True


def _shape(values: Any) -> tuple[int, ...]:
    plain = isinstance(values, Sequence) and not isinstance(values, str)
    if not plain or not values or not all(type(size) is int and size > 0 for size in values):
        raise ConfigError(
            f"input_shape: expected whole numbers above 0, such as (1, 28, 28), found {shortened(values)}"
        )
    if len(values) > _MAX_AXES:
        raise ConfigError(f"input_shape: expected at most {_MAX_AXES} axes, found {len(values)}")
    if math.prod(values) > _MAX_SIZE:
        raise ConfigError(f"input_shape: expected at most {_MAX_SIZE} numbers in a row, found {shortened(values)}")
    return tuple(values)


def _numbers(values: Any, name: str, count: int | None = None) -> tuple[float, ...]:
    """One number or several as floats; arrays and tensors too."""
    values = values.tolist() if hasattr(values, "tolist") else values
    listed = list(values) if isinstance(values, (list, tuple)) else [values]
    good = listed and all(map(_is_finite, listed))
    if not good or (count is not None and len(listed) != count):
        expected = "one finite number" if count == 1 else "finite numbers"
        raise ConfigError(f"preprocessing: {name}: expected {expected}, found {shortened(values)}")
    return tuple(float(value) for value in listed)


def _is_finite(value: Any) -> bool:
    if type(value) is int:
        return abs(value) <= sys.float_info.max  # a larger one is no float
    return type(value) is float and math.isfinite(value)


@lru_cache(maxsize=16)
def _column(values: tuple[float, ...], axes: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The values as `(n, 1, …, 1)`, with `axes` axes after the first: one for each channel."""
    with torch.inference_mode(False):  # a cached tensor is also used where gradients are computed
        return torch.tensor(values, dtype=dtype, device=device).reshape(-1, *[1] * axes)
