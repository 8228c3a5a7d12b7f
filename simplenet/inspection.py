"""Describe a checkpoint or an archive after verifying all that can be verified without running its code."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from simplenet.archive import Archive, read_archive
from simplenet.checkpoint.adopt import Given, adopt
from simplenet.checkpoint.entries import plain_part
from simplenet.checkpoint.file import read_contents
from simplenet.checkpoint.verify import Replay, Verification, verify
from simplenet.checkpoint.weights import Weights, is_whole, weights_in
from simplenet.errors import CheckpointError, ConfigError
from simplenet.manifest import is_archive
from simplenet.paths import PathLike
from simplenet.preprocessing import PREPROCESSING, InputSpec, output_of
from simplenet.text import dtype_name


@dataclass(frozen=True)
class ArchivePart:
    """What an archive adds to its checkpoint."""

    model_name: str
    version: str
    model_file: str | None  # the user's own network, if any
    settings: dict[str, Any]  # model-config.yaml


@dataclass(frozen=True)
class Description:
    """A verified file, described."""

    file: str  # a path or an s3:// address
    kind: str  # "checkpoint" or "archive"
    bytes: int  # size of the file
    model_config: dict[str, Any] | None  # stored, or inferred from the shapes
    parameters: int  # elements in all weights
    dtype: str  # of the weights; several are joined by commas
    weights: dict[str, list[int]]  # name to shape
    input_shape: list[int] | None  # of one row before the network; None for flat rows
    preprocessing: dict[str, Any] | None  # scale, mean and std; None if rows are not changed
    output: str  # what the network returns: logits, log_probabilities or probabilities
    classes: Any  # labels, as stored
    metadata: dict[str, Any]
    golden: str  # how well the golden samples agree, or why they were not replayed
    found: dict[str, Any]  # where in the file the weights were, and what of their names was stripped or mapped
    findings: list[str]  # what is unusual or lacking, and what adopting the file makes, one line each
    problem: str | None = None  # why the file cannot be served as it is, with the remedy
    archive: ArchivePart | None = None

    def to_dict(self) -> dict[str, Any]:
        """The description as plain data; a checkpoint has no entry `archive`."""
        entries = {field.name: getattr(self, field.name) for field in fields(self)}
        archive = entries.pop("archive")
        return {**entries, "archive": dict(vars(archive))} if archive else entries


def describe(path: PathLike, key: str | None = None) -> Description:
    """Verify a file and describe it; `findings` lists what it lacks.

    Args:
        path: any file with weights, or a .mar.
        key: the dotted path of the weights in it, if several would fit.

    Raises:
        SimpleNetError: the file cannot be read, or its hash, shapes or golden samples do not match.

    Example:
        >>> from simplenet import SimpleNet, save_for_inference
        >>> save_for_inference(SimpleNet(4, 8, 3), "model.pt")
        >>> description = describe("model.pt")
        >>> description.parameters, description.dtype, description.findings
        (67, 'float32', [])
    """
    file = Path(path)
    archive = read_archive(file) if is_archive(file) else None
    if archive is not None:
        return _description(file, verify(archive.checkpoint, str(file), archive.model_file), archive)
    contents = read_contents(file, mapped=True)
    if is_whole(contents) and key is None:
        return _description(file, verify(contents, str(file)), None)
    try:
        adopted = adopt(contents, str(file), Given(key=key))
    except (CheckpointError, ConfigError) as error:
        bare = replace(weights_in(contents, str(file), key=key), checkpoint={})
        return replace(_description(file, Verification(bare, Replay(skipped="none")), None), problem=str(error))
    assert adopted.weights is not None
    complete = replace(adopted.weights, checkpoint=adopted.checkpoint)
    described = _description(file, Verification(complete, Replay(skipped="none in the file")), None)
    return replace(described, findings=list(adopted.notes))


def _found(weights: Weights) -> dict[str, Any]:
    """Where the weights were in the file and what was done to them."""
    return {
        "place": weights.place,
        "other_places": list(weights.other_places),
        "prefix": weights.prefix,
        "stored_names": dict(weights.stored_names),
        "left_aside": list(weights.left_aside),
    }


def _description(file: Path, verified: Verification, archive: Archive | None) -> Description:
    weights = verified.weights
    tensors = list(weights.state_dict.values())
    inputs = InputSpec.from_checkpoint(weights.checkpoint, weights.source)
    return Description(
        file=str(file),
        kind="archive" if archive else "checkpoint",
        bytes=file.stat().st_size,
        model_config=None if weights.model_config is None else plain_part(weights.model_config, "model_config")[0],
        parameters=sum(tensor.numel() for tensor in tensors),
        dtype=", ".join(sorted({dtype_name(tensor.dtype) for tensor in tensors})),
        weights={name: list(tensor.shape) for name, tensor in weights.state_dict.items()},
        input_shape=list(inputs.shape) if inputs.shape else None,
        preprocessing=inputs.entries().get(PREPROCESSING),
        output=output_of(weights.checkpoint, weights.source),
        classes=weights.classes,
        metadata=weights.metadata,
        golden=str(verified.replay),
        found=_found(weights),
        findings=list(verified.findings),
        archive=ArchivePart(archive.model_name, archive.version, archive.model_file, archive.settings)
        if archive
        else None,
    )
