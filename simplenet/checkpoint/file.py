"""The bytes of a checkpoint: read without running code, written whole or not at all.

A checkpoint is a dict saved by torch.save. It is always read with `weights_only=True`: a pickle that holds more than
tensors and plain values is refused and its unsafe globals are named.
"""

import io
import os
import pickle
import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import orjson
import torch

from simplenet.atomic import atomic_write
from simplenet.checkpoint.format_version import require_known_format
from simplenet.checkpoint.keys import METADATA
from simplenet.checkpoint.safetensors_file import SUFFIX, is_safetensors, read_safetensors, write_safetensors
from simplenet.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    NotACheckpointError,
    TruncatedCheckpointError,
    UnsafeCheckpointError,
)
from simplenet.manifest import DAMAGED_ZIP, MANIFEST, is_archive
from simplenet.paths import PathLike
from simplenet.text import first_line

_ZIP = b"PK\x03\x04"


def write_checkpoint(checkpoint: Mapping[str, Any], path: PathLike) -> None:
    """Save the dict to `path`: a sibling temporary file, flushed to disk, then renamed.

    A name ending in `.safetensors` selects that format, any other name torch.save's.
    """
    if Path(path).suffix == SUFFIX:
        write_safetensors(checkpoint, path)
        return
    with atomic_write(path) as file:
        torch.save(dict(checkpoint), file)


def read_checkpoint(path: PathLike, device: str | torch.device = "cpu", *, mapped: bool = False) -> dict[str, Any]:
    """Load the dict that `path` holds (.pt, .safetensors, or the checkpoint inside a .mar), its tensors on `device`.

    Args:
        path: the file.
        device: for the tensors, whatever device they were saved from.
        mapped: leave the tensors in the file and read them on use, which saves time and memory. Only for a file that
            is not overwritten in place meanwhile; replacing it, as this library does, is safe.

    Raises:
        CheckpointNotFoundError: the file does not exist.
        TruncatedCheckpointError: the file ends too early.
        UnsafeCheckpointError: a pickle that would run code.
        LaterFormatError: a checkpoint of a later format than this version reads.
        NotACheckpointError: a file of another kind.
        CheckpointError: this machine does not have the device.

    Example:
        >>> write_checkpoint({"model_state_dict": {"bias": torch.zeros(2)}}, "bias.safetensors")
        >>> read_checkpoint("bias.safetensors")
        {'model_state_dict': {'bias': tensor([0., 0.])}}
    """
    file = Path(path)
    if not file.exists():
        raise CheckpointNotFoundError(f"{file}: no such file")
    if file.is_dir():
        raise NotACheckpointError(f"{file}: expected a checkpoint file, found a directory")
    device = checked_device(device, str(file))
    with file.open("rb") as stream:
        if is_safetensors(stream.read(9)):
            return read_safetensors(file, device, mapped=mapped)
        stream.seek(0)
        return _load(stream, device, str(file), file if mapped else None)


def is_torch_file(path: PathLike) -> bool:
    """Whether a readable checkpoint was written by torch.save, and is neither a `.safetensors` nor an archive.

    Example:
        >>> write_checkpoint({"model_state_dict": {"bias": torch.zeros(2)}}, "bias.safetensors")
        >>> is_torch_file("bias.safetensors")
        False
    """
    with Path(path).open("rb") as stream:
        return not is_safetensors(stream.read(9)) and not is_archive(path)


def checked_device(device: str | torch.device, source: str) -> torch.device:
    """The device, if this machine has it.

    Raises:
        CheckpointError: it does not; `source` names the file that cannot be loaded.
    """
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise CheckpointError(f"{source}: cannot be loaded to {str(device)!r}: {first_line(error)}") from error


def _load(stream: IO[bytes], device: str | torch.device, source: str, file: Path | None = None) -> dict[str, Any]:
    """The dict in the stream; `file` is the file to map instead of reading, if any."""
    start = stream.read(4)
    if not start:
        raise TruncatedCheckpointError(f"{source}: the file is empty")
    stream.seek(0)
    if start == _ZIP:
        names = _zip_names(stream, source)
        if MANIFEST in names:
            return _load_from_archive(stream, device, source)
    elif start[:1] != b"\x80":  # neither a zip nor a pickle
        raise NotACheckpointError(f"{source}: expected a file written by torch.save, found something else")
    unsafe = _unsafe_globals(stream)
    stream.seek(0)
    if unsafe:
        raise UnsafeCheckpointError(
            f"{source}: a pickle that would run code ({', '.join(unsafe[:5])}) and was not loaded; "
            "save model.state_dict() instead of the model, with simplenet.save_for_inference"
        )
    mapped = file if start == _ZIP else None  # the format before torch 1.6 cannot be mapped
    try:
        loaded = torch.load(mapped or stream, map_location=device, weights_only=True, mmap=mapped is not None)
    except pickle.UnpicklingError as error:
        raise UnsafeCheckpointError(
            f"{source}: a pickle that holds more than tensors and plain values, and was not loaded: {first_line(error)}"
        ) from error
    except (EOFError, OSError) as error:
        raise TruncatedCheckpointError(f"{source}: the file ends too early: {first_line(error)}") from error
    except Exception as error:  # torch raises many kinds for a damaged file; each means the same to the reader
        raise NotACheckpointError(f"{source}: damaged, or not a checkpoint: {first_line(error)}") from error
    if not isinstance(loaded, dict):
        raise NotACheckpointError(f"{source}: expected a dict, found {type(loaded).__name__}")
    require_known_format(loaded.get(METADATA), source)
    _require_honest(loaded, source)
    return loaded


def _zip_names(stream: IO[bytes], source: str) -> list[str]:
    try:
        with zipfile.ZipFile(stream) as archive:
            return archive.namelist()
    except DAMAGED_ZIP as error:
        raise TruncatedCheckpointError(
            f"{source}: the file is damaged or ends too early: {first_line(error)}"
        ) from error
    finally:
        stream.seek(0)


def _load_from_archive(stream: IO[bytes], device: str | torch.device, source: str) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(stream) as archive:
            manifest = orjson.loads(archive.read(MANIFEST))
            name = manifest["model"]["serializedFile"]
            inner = io.BytesIO(archive.read(name))
    except (TypeError, *DAMAGED_ZIP) as error:
        raise NotACheckpointError(f"{source}: an archive without a readable checkpoint: {first_line(error)}") from error
    if inner.getbuffer()[:4] == _ZIP and MANIFEST in _zip_names(inner, source):
        raise NotACheckpointError(f"{source}: expected a checkpoint in the archive, found another archive")
    return _load(inner, device, f"{source}!{name}")


def _require_honest(value: Any, source: str, where: str = "") -> None:
    """Refuse a tensor that claims more elements than it has bytes: using it would allocate memory for them."""
    if isinstance(value, torch.Tensor):
        if value.layout == torch.strided and (value.is_meta or value.nbytes > value.untyped_storage().nbytes()):
            raise NotACheckpointError(f"{source}: {where}: expected {value.nbytes} bytes of numbers, found fewer")
    elif isinstance(value, dict):
        for key, item in value.items():
            _require_honest(item, source, f"{where}[{key!r}]" if where else str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _require_honest(item, source, f"{where}[{index}]")


def _unsafe_globals(stream: IO[bytes]) -> list[str]:
    """Names that the pickle would import and that no tensor needs, read from its opcodes without running them."""
    names: set[str] = set()
    strings: list[str] = []
    try:
        if stream.read(4) == _ZIP:
            stream.seek(0)
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(stream))
        stream.seek(0)
        while True:  # a legacy file is several pickles in a row
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name == "GLOBAL":
                    names.add(str(argument).replace(" ", "."))
                elif opcode.name == "STACK_GLOBAL":
                    names.add(".".join(strings[-2:]))
                elif isinstance(argument, str):
                    strings.append(argument)
            if not stream.read(1):
                break
            stream.seek(-1, os.SEEK_CUR)
    except (ValueError, EOFError, RuntimeError, LookupError, MemoryError, pickle.UnpicklingError):
        pass  # raw tensor bytes follow, or the file is damaged: loading it shows which
    finally:
        stream.seek(0)
    harmless = ("torch.", "collections.OrderedDict", "numpy.")
    return sorted(name for name in names if not name.startswith(harmless) or name.startswith("torch.nn.modules"))
