"""Describe a checkpoint or an archive after verifying all that can be verified without running anything of it."""

from pathlib import Path
from typing import Any

from simplenet.archive import Archive, read_archive
from simplenet.checkpoint.file import PathLike, is_archive, read_checkpoint
from simplenet.checkpoint.inference import load_weights
from simplenet.checkpoint.keys import CLASSES, GOLDEN
from simplenet.checkpoint.weights import Weights, weights_in
from simplenet.errors import NotACheckpointError
from simplenet.integrity import verify_golden
from simplenet.model import build_model, is_foreign


def describe(path: PathLike) -> dict[str, Any]:
    """Verify `path` and describe it as plain data; what it lacks is under `findings`.

    Raises:
        SimpleNetError: it cannot be read, or its hash, shapes or golden samples do not match.
    """
    file = Path(path)
    archive = read_archive(file) if is_archive(file) else None
    checkpoint = archive.checkpoint if archive else read_checkpoint(file, mapped=True)
    weights = weights_in(checkpoint, str(file))
    tensors = list(weights.state_dict.values())
    description: dict[str, Any] = {
        "file": str(file),
        "kind": "archive" if archive else "checkpoint",
        "bytes": file.stat().st_size,
        "model_config": weights.model_config,
        "parameters": sum(tensor.numel() for tensor in tensors),
        "dtype": ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors})),
        "weights": {name: list(tensor.shape) for name, tensor in weights.state_dict.items()},
        "classes": checkpoint.get(CLASSES),
        "metadata": weights.metadata,
        "golden": _replay(weights, archive.model_file if archive else None),
        "findings": list(weights.findings),
    }
    if archive:
        description["archive"] = _describe_archive(archive)
    return description


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


def _describe_archive(archive: Archive) -> dict[str, Any]:
    return {
        "model_name": archive.model_name,
        "version": archive.version,
        "model_file": archive.model_file,
        "settings": archive.settings,
    }
