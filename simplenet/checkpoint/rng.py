"""Save and restore the state of every random generator that training uses, as plain data."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from simplenet.checkpoint.keys import RNG_STATE
from simplenet.errors import CheckpointError


def rng_state(generator: torch.Generator | None = None) -> dict[str, Any]:
    """The random state of Python, NumPy, torch and CUDA, and of the data's own generator, as plain data.

    Example:
        >>> state = rng_state()
        >>> first = random.random(), torch.rand(1)
        >>> set_rng_state(state, None, "epoch.pt")
        >>> first == (random.random(), torch.rand(1))
        True
    """
    numpy_state: Any = np.random.get_state(legacy=False)
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": {
            "bit_generator": str(numpy_state["bit_generator"]),
            "key": torch.from_numpy(numpy_state["state"]["key"].astype(np.int64)),
            "pos": int(numpy_state["state"]["pos"]),
            "has_gauss": int(numpy_state["has_gauss"]),
            "gauss": float(numpy_state["gauss"]),
        },
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    if generator is not None:
        state["generator"] = generator.get_state()
    return state


def set_rng_state(state: Mapping[str, Any], generator: torch.Generator | None, source: str) -> None:
    """Restore what `rng_state` returned; CUDA's only if the number of GPUs is the same.

    Raises:
        CheckpointError: a part is missing or invalid; nothing is changed.
    """
    before = rng_state(generator)
    try:
        _set_rng_state(state, generator)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        _set_rng_state(before, generator)
        raise CheckpointError(f"{source}: {RNG_STATE}: cannot be restored: {type(error).__name__}: {error}") from error


def _set_rng_state(state: Mapping[str, Any], generator: torch.Generator | None) -> None:
    random.setstate(state["python"])
    numpy_state = dict(state["numpy"])
    words = {"key": numpy_state.pop("key").numpy().astype(np.uint32), "pos": numpy_state.pop("pos")}
    np.random.set_state({**numpy_state, "state": words})
    torch.set_rng_state(state["torch"].cpu())
    if len(state.get("cuda", ())) == torch.cuda.device_count() > 0:
        torch.cuda.set_rng_state_all([device_state.cpu() for device_state in state["cuda"]])
    if generator is not None:
        generator.set_state(state["generator"].cpu())
