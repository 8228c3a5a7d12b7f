"""The names of weights: without what wrappers add, in natural order, and which belong to no layer of the network."""

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from simplenet.errors import KeyMismatchError

# What wrappers add anywhere in a name: torch.compile, FSDP, activation checkpointing, DeepSpeed in Lightning, Opacus.
_WRAPPERS = frozenset(
    ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "_module", "_flat_param")
)
_LEADING = "module"  # DataParallel and DistributedDataParallel; a layer may have this name too
# What stands among the weights without being one: SWA's and EMA's counters, thop's counts, torch's extra state.
_COUNTERS = frozenset(
    (
        *("n_averaged", "total_ops", "total_params", "num_updates", "decay", "initted", "step"),
        *("_extra_state", "_float_tensor", "pos_weight", "class_weight", "class_weights"),
    )
)
_MOST_DOTS = 32  # of a name, behind which no network begins
_LONGEST = 1000  # characters of a layer's name
_LOSS = re.compile(
    r"(^|[._])(loss|criterion|metric|metrics|acc|accuracy|auroc|f1)(_?fn)?([._]|\d|$)|loss", re.IGNORECASE
)


def without_wrappers(names: Iterable[str], source: str) -> dict[str, str]:
    """Each name with its bare name: without what torch.compile, FSDP, DistributedDataParallel and their like add.

    Raises:
        KeyMismatchError: two names become the same.

    Example:
        >>> without_wrappers(["module._orig_mod.fc1.bias"], "model.pt")
        {'module._orig_mod.fc1.bias': 'fc1.bias'}
    """
    parts = {name: [part for part in name.split(".") if part not in _WRAPPERS] or [name] for name in names}
    weights = [name for name in parts if not is_counter(name)]
    wrapped = min((_leading(parts[name]) for name in weights), default=0)  # times, counted once: a name may be long
    parts = {name: found[min(wrapped, _leading(found)) :] for name, found in parts.items()}
    bare = {name: ".".join(found) for name, found in parts.items()}
    if len(set(bare.values())) != len(bare):
        raise KeyMismatchError(f"{source}: two weights have the same name without what wrappers add to it")
    return bare


def _leading(parts: list[str]) -> int:
    """How many times a name begins with what DataParallel adds; its last part is the layer's own."""
    return next((index for index, part in enumerate(parts[:-1]) if part != _LEADING), len(parts) - 1)


def is_counter(name: str) -> bool:
    """Whether an entry among the weights only counts something.

    Example:
        >>> is_counter("fc1.total_ops"), is_counter("fc1.weight")
        (True, False)
    """
    return name.rpartition(".")[2] in _COUNTERS


def is_of_loss(name: str) -> bool:
    """Whether an entry among the weights belongs to a loss or a metric.

    Example:
        >>> is_of_loss("loss_fn.weight"), is_of_loss("criterion.weight"), is_of_loss("fc1.weight")
        (True, True, False)
    """
    return _LOSS.search(name.rpartition(".")[0] or name) is not None


def prefixes(names: Iterable[str]) -> list[str]:
    """Every dotted prefix that two or more of the names share, the shortest first; the empty one is the first.

    Only the first dots of a name are looked at, and no name that is too long: a damaged file may have any.

    Example:
        >>> prefixes(["net.fc1.weight", "net.fc1.bias", "loss.weight"])
        ['', 'net.', 'net.fc1.']
    """
    counts: dict[str, int] = {}
    for name in (name for name in names if len(name) <= _LONGEST):
        dots = (index for index, letter in enumerate(name) if letter == ".")
        for position in itertools.islice(dots, _MOST_DOTS):
            prefix = name[: position + 1]
            counts[prefix] = counts.get(prefix, 0) + 1
    return ["", *sorted((prefix for prefix, count in counts.items() if count > 1), key=lambda one: one.count("."))]


def below(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The entries whose names begin with the prefix, under the rest of their names."""
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """A key to sort names with numbers in them as people count.

    Example:
        >>> sorted(["layer10", "layer9"], key=natural_key)
        ['layer9', 'layer10']
    """
    return [
        (0, int(part)) if part.isascii() and part.isdecimal() and len(part) < 10 else (1, part)
        for part in re.split(r"(\d+)", name)
    ]
