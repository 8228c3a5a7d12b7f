"""Remove the prefixes that wrappers add to the names of weights."""

from collections.abc import Mapping

import torch

from simplenet.errors import KeyMismatchError

_ANYWHERE = "_orig_mod"  # torch.compile: of the whole network or of any layer
_LEADING = "module"  # DataParallel and DistributedDataParallel: of the whole network; a layer may have this name too


def without_prefixes(state_dict: Mapping[str, torch.Tensor], source: str) -> dict[str, torch.Tensor]:
    """The weights under the bare network's names, without what torch.compile and DistributedDataParallel add.

    Raises:
        KeyMismatchError: two names become the same.

    Example:
        >>> list(without_prefixes({"module._orig_mod.fc1.bias": torch.zeros(2)}, "model.pt"))
        ['fc1.bias']
    """
    names = {name: [part for part in name.split(".") if part != _ANYWHERE] for name in state_dict}
    while names and all(len(parts) > 1 and parts[0] == _LEADING for parts in names.values()):
        names = {name: parts[1:] for name, parts in names.items()}
    bare = {".".join(parts): state_dict[name] for name, parts in names.items()}
    if len(bare) != len(state_dict):
        raise KeyMismatchError(f"{source}: two weights have the same name without {_ANYWHERE!r} and {_LEADING!r}")
    return bare
