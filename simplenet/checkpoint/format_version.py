"""The checkpoint formats that this version reads.

Whatever a later format changes, it must keep `metadata`, `content_hash` and `format_version` where they are: an older
version recognises a checkpoint by the first two and reads the third before it trusts anything else.
"""

from typing import Any

from simplenet.checkpoint.entries import stored_hash
from simplenet.checkpoint.keys import CURRENT_FORMAT, FORMAT_VERSION
from simplenet.errors import LaterFormatError, NotACheckpointError
from simplenet.text import shortened


def require_known_format(metadata: Any, source: str) -> None:
    """Refuse a checkpoint whose metadata names a format that this version does not read.

    A file without a content hash was not written by this library; its `format_version` means something else.

    Raises:
        LaterFormatError: the format is later than the latest that this version reads.
        NotACheckpointError: the format is not a whole number from 1.

    Example:
        >>> require_known_format({"content_hash": "6fc946aa1de6", "format_version": 1}, "model.pt")
        >>> require_known_format({"format_version": "of another program"}, "model.pt")
    """
    if stored_hash(metadata) is None:
        return
    version = metadata.get(FORMAT_VERSION, CURRENT_FORMAT)
    if type(version) is not int or version < 1:
        raise NotACheckpointError(
            f"{source}: metadata[{FORMAT_VERSION!r}]: expected a whole number from 1, found {shortened(version)}"
        )
    if version > CURRENT_FORMAT:
        raise LaterFormatError(
            f"{source}: expected a checkpoint of format {CURRENT_FORMAT}, the latest that this version reads, "
            f"found format {shortened(version)}; "
            "upgrade SimpleNet Serve, in its checkout: git pull && scripts/bootstrap"
        )
