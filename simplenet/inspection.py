"""Describe a checkpoint or an archive after verifying all that can be verified without running anything of it."""

import zipfile
from pathlib import Path
from typing import Any

from simplenet.archive import Archive, read_archive
from simplenet.checkpoint import restore, verified_parts
from simplenet.checkpoint.file import MANIFEST, PathLike, read_checkpoint
from simplenet.checkpoint.keys import CLASSES, GOLDEN
from simplenet.integrity import verify_golden


def describe(path: PathLike) -> dict[str, Any]:
    """Verify `path` and describe it as plain data.

    Raises:
        SimpleNetError: it cannot be read, or its hash, shapes or golden samples do not match.
    """
    file = Path(path)
    archive = read_archive(file) if _is_archive(file) else None
    checkpoint = archive.checkpoint if archive else read_checkpoint(file, mapped=True)
    state_dict, config, metadata = verified_parts(checkpoint, str(file))
    tensors = list(state_dict.values())
    description: dict[str, Any] = {
        "file": str(file),
        "kind": "archive" if archive else "checkpoint",
        "bytes": file.stat().st_size,
        "model_config": config,
        "parameters": sum(tensor.numel() for tensor in tensors),
        "dtype": ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors})),
        "weights": {name: list(tensor.shape) for name, tensor in state_dict.items()},
        "classes": checkpoint.get(CLASSES),
        "metadata": metadata,
    }
    if archive:
        description["archive"] = _describe_archive(archive)
    if archive and archive.model_file:
        description["golden"] = f"not replayed: the network is in {archive.model_file}, which inspect does not run"
    else:
        model = restore(checkpoint, "cpu", str(file))
        golden = checkpoint[GOLDEN]
        error = verify_golden(model, golden, str(file))
        description["golden"] = f"{len(golden['inputs'])} samples agree, largest relative difference {error:.2g}"
    return description


def _is_archive(file: Path) -> bool:
    if not zipfile.is_zipfile(file):
        return file.suffix == ".mar"
    with zipfile.ZipFile(file) as contents:
        return MANIFEST in contents.namelist() or file.suffix == ".mar"


def _describe_archive(archive: Archive) -> dict[str, Any]:
    return {
        "model_name": archive.model_name,
        "version": archive.version,
        "model_file": archive.model_file,
        "settings": archive.settings,
    }
