"""Where a network came from: loading sets the checkpoint's content hash on it, saving writes that as `parent_hash`."""

from typing import Any

from torch import nn

from simplenet.checkpoint.entries import stored_hash
from simplenet.model import bare_network

_ORIGIN = "loaded_content_hash"  # an attribute of the module, so that copies keep it


def remember_origin(model: nn.Module, metadata: Any) -> None:
    """Set the content hash in a checkpoint's metadata, if there is one, on the network loaded from it."""
    if (found := stored_hash(metadata)) is not None:
        setattr(bare_network(model), _ORIGIN, found)


def origin_of(model: nn.Module) -> str | None:
    """The content hash of the checkpoint that the network was last loaded from; None if there is none."""
    origin = getattr(bare_network(model), _ORIGIN, None)
    return origin if isinstance(origin, str) else None
