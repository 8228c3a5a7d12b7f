"""How a run is trained: the defaults, defined once, and the record that its checkpoints carry.

Nothing here needs torch, so that `simplenet --help` can show the defaults at once.
"""

from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, fields
from typing import Any

TRAINING = "training"  # the key of a checkpoint's metadata that holds the record


@dataclass(frozen=True)
class Hyperparameters:
    """What is chosen before a run starts; the defaults train the bundled digits to about 97 % in seconds."""

    epochs: int = 10
    batch_size: int = 64  # rows per step
    hidden_size: int = 256  # units of the hidden layer
    seed: int = 0  # of the first weights, the order of the rows and their shifts
    hidden_sizes: tuple[int, ...] = ()  # units of each hidden layer, instead of hidden_size, if there are several


@dataclass(frozen=True)
class TrainingRecord:
    """What a checkpoint records about the run that wrote it: `metadata["training"]`.

    Example:
        >>> TrainingRecord.of({"training": {"epochs": 20, "seed": 7}})
        TrainingRecord(epochs=20, batch_size=64, seed=7, data_hash='', run='')
    """

    epochs: int = Hyperparameters.epochs  # planned for the run
    batch_size: int = Hyperparameters.batch_size
    seed: int = Hyperparameters.seed
    data_hash: str = ""  # SHA-256 over the training rows and labels; empty if not recorded
    run: str = ""  # the id of the run; empty if not recorded

    @classmethod
    def of(cls, metadata: object) -> "TrainingRecord":
        """The record in a checkpoint's metadata; the default for each value that is missing or has another type."""
        stored = metadata.get(TRAINING) if isinstance(metadata, Mapping) else None
        if not isinstance(stored, Mapping):
            return cls()
        return cls(**{field.name: stored[field.name] for field in fields(cls) if _has(stored, field)})

    def as_metadata(self) -> dict[str, Any]:
        """The entry for a checkpoint's metadata."""
        return {TRAINING: asdict(self)}


def _has(stored: Mapping[str, Any], field: Field[Any]) -> bool:
    return type(stored.get(field.name)) is type(field.default)
