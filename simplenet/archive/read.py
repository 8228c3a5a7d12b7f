"""Read a .mar without running anything from it."""

import zipfile
from dataclasses import dataclass
from typing import Any

from simplenet.errors import ArchiveError
from simplenet.manifest import DAMAGED_ZIP, Manifest, read_manifest
from simplenet.paths import PathLike


@dataclass(frozen=True)
class Archive(Manifest):
    """The manifest of a .mar and the checkpoint in it."""

    checkpoint: dict[str, Any]


def read_archive(path: PathLike) -> Archive:
    """Read a .mar without running anything from it.

    Raises:
        ArchiveError: the file is not an archive, is damaged, or has no manifest, model-config or checkpoint.
        CheckpointError: the checkpoint in it is refused.

    Example:
        >>> from simplenet import SimpleNet, create_archive, save_for_inference
        >>> save_for_inference(SimpleNet(4, 8, 3), "model.pt")
        >>> archive = read_archive(create_archive("model.pt", model_name="tiny", export_path="read"))
        >>> archive.model_name, archive.version, archive.checkpoint["model_config"]["num_classes"]
        ('tiny', '1.0', 3)
    """
    from simplenet.checkpoint.file import read_checkpoint

    manifest = read_manifest(path)
    try:
        with zipfile.ZipFile(manifest.path) as archive:
            damaged = archive.testzip()
    except DAMAGED_ZIP as error:
        raise ArchiveError(f"{manifest.path}: not a model archive made by simplenet archive: {error}") from error
    if damaged:
        raise ArchiveError(f"{manifest.path}: damaged: {damaged} does not match its checksum")
    return Archive(**vars(manifest), checkpoint=read_checkpoint(manifest.path))
