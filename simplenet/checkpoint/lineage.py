"""Where a network came from: loading notes the checkpoint's content hash on it, saving writes that as the parent's."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from simplenet.checkpoint.keys import CONTENT_HASH
from simplenet.model import bare_network

_ORIGIN = "loaded_content_hash"  # an attribute of the module, so that a copy of it remembers too


def remember_origin(model: nn.Module, metadata: Any) -> None:
    """Note the content hash in a checkpoint's metadata, if there is one, on the network that was loaded from it."""
    stored_hash = metadata.get(CONTENT_HASH) if isinstance(metadata, Mapping) else None
    if isinstance(stored_hash, str):
        setattr(bare_network(model), _ORIGIN, stored_hash)


def origin_of(model: nn.Module) -> str | None:
    """The content hash of the checkpoint that the network was last loaded from; None if it was not, or had none."""
    origin = getattr(bare_network(model), _ORIGIN, None)
    return origin if isinstance(origin, str) else None
