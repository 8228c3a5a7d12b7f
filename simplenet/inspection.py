"""Describe a checkpoint or an archive after verifying all that can be verified without running anything of it."""

from pathlib import Path
from typing import Any

from simplenet.archive import Archive, read_archive
from simplenet.checkpoint.file import read_checkpoint
from simplenet.checkpoint.keys import CLASSES, GOLDEN
from simplenet.checkpoint.state_dict import load_weights
from simplenet.checkpoint.weights import Weights, weights_in
from simplenet.errors import NotACheckpointError
from simplenet.integrity import verify_golden
from simplenet.manifest import is_archive
from simplenet.model import build_model, is_foreign
from simplenet.paths import PathLike
from simplenet.text import dtype_name


def describe(path: PathLike) -> dict[str, Any]:
    """Verify `path` and describe it as plain data; what it lacks is under `findings`.

    Raises:
        SimpleNetError: it cannot be read, or its hash, shapes or golden samples do not match.
    """
    file = Path(path)
    if is_archive(file):
        return describe_archive(read_archive(file))
    return _describe(file, read_checkpoint(file, mapped=True))


def describe_archive(archive: Archive) -> dict[str, Any]:
    """`describe` an archive that was read.

    Raises:
        SimpleNetError: the hash, shapes or golden samples of its checkpoint do not match.
    """
    return {
        **_describe(archive.path, archive.checkpoint, archive.model_file),
        "kind": "archive",
        "archive": {
            "model_name": archive.model_name,
            "version": archive.version,
            "model_file": archive.model_file,
            "settings": archive.settings,
        },
    }


def _describe(file: Path, checkpoint: dict[str, Any], model_file: str | None = None) -> dict[str, Any]:
    weights = weights_in(checkpoint, str(file))
    tensors = list(weights.state_dict.values())
    return {
        "file": str(file),
        "kind": "checkpoint",
        "bytes": file.stat().st_size,
        "model_config": weights.model_config,
        "parameters": sum(tensor.numel() for tensor in tensors),
        "dtype": ", ".join(sorted({dtype_name(tensor.dtype) for tensor in tensors})),
        "weights": {name: list(tensor.shape) for name, tensor in weights.state_dict.items()},
        "classes": checkpoint.get(CLASSES),
        "metadata": weights.metadata,
        "golden": _replay(weights, model_file),
        "findings": list(weights.findings),
    }


def require_whole(description: dict[str, Any]) -> None:
    """Refuse to serve what was described with findings.

    Raises:
        NotACheckpointError: names them, and the remedy.
    """
    if findings := description["findings"]:
        raise NotACheckpointError(
            f"{description['file']}: {'; '.join(findings)}; make a whole checkpoint of it with simplenet repair"
        )


def _replay(weights: Weights, model_file: str | None) -> str:
    """Rebuild a registered network and replay its golden samples; other networks are not run."""
    if model_file:
        return f"not replayed: the network is in {model_file}, which inspect does not run"
    if weights.model_config is None:
        return "not replayed: there is no model_config"
    if is_foreign(weights.model_config):
        return "not replayed: the network is not a registered one"
    model = build_model(weights.model_config)
    load_weights(model, weights.state_dict, weights.source)
    golden = weights.checkpoint.get(GOLDEN)
    if golden is None:
        return "none"
    error = verify_golden(model, golden, weights.source)
    return f"{len(golden['inputs'])} samples agree, largest relative difference {error:.2g}"
