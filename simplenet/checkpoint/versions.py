"""Versions of a network side by side: saved under distinct names, listed by age."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from torch import nn

from simplenet.checkpoint.file import read_checkpoint, write_checkpoint
from simplenet.checkpoint.keys import CONTENT_HASH, METADATA, PARENT_HASH, TIMESTAMP
from simplenet.checkpoint.save import inference_checkpoint
from simplenet.checkpoint.state_dict import find_state_dict
from simplenet.errors import SimpleNetError
from simplenet.paths import PathLike
from simplenet.storage import StoredFile, is_remote, list_objects, local_copy, local_output
from simplenet.text import LONGEST_VALUE, shortened

SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors", ".mar")  # of the files that a listing opens
SHORT_HASH = 8  # hexadecimal digits


@dataclass(frozen=True)
class Version:
    """One line of a listing."""

    file: str  # a path, or s3://bucket/key
    date: str  # ISO 8601, UTC: when it was saved, or when the file was last written
    hash8: str | None  # the content hash in the file, shortened
    parent8: str | None  # the same of its parent checkpoint
    accuracy: Any  # from the metadata
    error: str | None = None  # why the file cannot be read


def save_versioned_model(
    model: nn.Module, metadata: Mapping[str, Any] | None, save_dir: PathLike = "models", **inference: Any
) -> str:
    """Save a network for serving as `<save_dir>/model_<timestamp>_<hash8>.pt`, whole or not at all.

    The timestamp is UTC to the second; hash8 is the first eight hexadecimal digits of the content hash. The same
    weights saved twice within a second are one version, with the later metadata.

    Args:
        model: the network; the checkpoint that it was loaded from becomes its `parent_hash`.
        metadata: plain values to keep (accuracy, dataset, …).
        save_dir: a folder, created if missing, or `s3://bucket/folder`.
        **inference: `model_config`, `classes`, `golden_inputs`, `input_shape`, `preprocessing`, `output`, as
            `save_for_inference` takes them.

    Returns:
        The path or address of the file.

    Raises:
        CheckpointError: metadata or classes cannot be stored, or the network's logits are NaN.
        ConfigError: the network has no model_config and none is given.
        StorageError: the file cannot be stored at the address.

    Example:
        >>> from simplenet import SimpleNet
        >>> path = save_versioned_model(SimpleNet(4, 8, 3), {"accuracy": 0.97}, "versions")
        >>> path.startswith("versions/model_"), path.endswith(".pt")
        (True, True)
    """
    checkpoint = inference_checkpoint(model, metadata, **inference)
    own = checkpoint[METADATA]
    saved = datetime.fromisoformat(own[TIMESTAMP])
    name = f"model_{saved:%Y%m%d_%H%M%S}_{own[CONTENT_HASH][:SHORT_HASH]}.pt"
    filepath = f"{str(save_dir).rstrip('/')}/{name}" if is_remote(save_dir) else str(Path(save_dir) / name)
    with local_output(filepath) as target:
        write_checkpoint(checkpoint, target)
    return filepath


def list_versions(folder: PathLike) -> list[Version]:
    """Every checkpoint and archive in a folder, at any depth, the oldest first.

    A damaged file is listed with its error. The hashes are read, not verified: of a local checkpoint only the metadata
    is read. An S3 object is downloaded completely.

    Raises:
        StorageError: the folder cannot be listed.

    Example:
        >>> from simplenet import SimpleNet, load_model_for_inference
        >>> first = save_versioned_model(SimpleNet(4, 8, 3), {"accuracy": 0.5}, "listed")
        >>> model = load_model_for_inference(first)
        >>> _ = nn.init.zeros_(model.fc2.bias)
        >>> second = save_versioned_model(model, {"accuracy": 0.9}, "listed")
        >>> parents = {version.accuracy: version.parent8 for version in list_versions("listed")}
        >>> parents[0.5] is None, parents[0.9] in first
        (True, True)
    """
    files = [file for file in list_objects(folder) if file.address.endswith(SUFFIXES)]
    dated = [(_version(file), file.modified) for file in files]
    dated.sort(key=lambda item: (item[0].date, item[1], item[0].file))
    return [version for version, _ in dated]


def _version(file: StoredFile) -> Version:
    modified = file.modified.isoformat(timespec="seconds")
    try:
        with local_copy(file.address) as path:
            checkpoint = read_checkpoint(path, mapped=True)
            find_state_dict(checkpoint, str(path))
    except (SimpleNetError, OSError) as error:
        return Version(file.address, modified, None, None, None, str(error))
    metadata = checkpoint.get(METADATA)
    metadata = metadata if isinstance(metadata, dict) else {}
    return Version(
        file.address,
        _utc(metadata.get(TIMESTAMP)) or modified,
        _short(metadata.get(CONTENT_HASH)),
        _short(metadata.get(PARENT_HASH)),
        _shown(metadata.get("accuracy")),
    )


def _utc(timestamp: Any) -> str | None:
    """The timestamp as a listing shows it; None if invalid. Without a time zone it counts as UTC."""
    try:
        moment = datetime.fromisoformat(timestamp)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        return moment.astimezone(timezone.utc).isoformat(timespec="seconds")
    except (TypeError, ValueError, OverflowError):
        return None


def _shown(value: Any) -> Any:
    """An accuracy as a listing shows it: what is no number is shortened."""
    if isinstance(value, str):
        return value[:LONGEST_VALUE]
    return value if value is None or isinstance(value, (bool, int, float)) else shortened(value)


def _short(value: Any) -> str | None:
    return value[:SHORT_HASH] if isinstance(value, str) else None
