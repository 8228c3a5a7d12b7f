"""The bytes of a checkpoint: read without running code, written whole or not at all.

A checkpoint is a dict saved by torch.save. `checkpoint/reading/` has the readers of each kind of file; here the first
bytes decide which one reads.
"""

import io
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import orjson
import torch

from simplenet.atomic import atomic_write
from simplenet.checkpoint.format_version import require_known_format
from simplenet.checkpoint.keys import METADATA
from simplenet.checkpoint.reading.kind import Kind
from simplenet.checkpoint.reading.kinds import kind_of_stream
from simplenet.checkpoint.reading.kinds_of_folder import kind_of_folder
from simplenet.checkpoint.reading.numpy_files import is_npz, read_npy, read_npz
from simplenet.checkpoint.reading.torch_file import is_torch_zip, read_pickle, read_torch_zip
from simplenet.checkpoint.reading.wrapped import unwrapped
from simplenet.checkpoint.safetensors_file import SUFFIX, is_safetensors, read_safetensors, write_safetensors
from simplenet.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    NotACheckpointError,
    TruncatedCheckpointError,
)
from simplenet.manifest import DAMAGED_ZIP, MANIFEST
from simplenet.paths import PathLike
from simplenet.text import first_line

_ZIP = b"PK\x03\x04"
_EARLY_PICKLES = (b"(", b"}", b"]", b"c", b"l", b"d")  # protocols 0 and 1 have no mark at the beginning
_NPY = b"\x93NUMPY"
_DEEPEST = 3  # containers in containers
_HEAD = 16  # bytes that tell the readers apart
_MOST_UNPACKED = 64 * 2**30  # bytes


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
    """`read_contents` of a file that must hold a dict.

    Raises:
        CheckpointError: as for `read_contents`.
        NotACheckpointError: it holds something else.

    Example:
        >>> write_checkpoint({"model_state_dict": {"bias": torch.zeros(2)}}, "bias.safetensors")
        >>> read_checkpoint("bias.safetensors")
        {'model_state_dict': {'bias': tensor([0., 0.])}}
    """
    contents = read_contents(path, device, mapped=mapped)
    if not isinstance(contents, dict):
        raise NotACheckpointError(f"{path}: expected a dict, found {type(contents).__name__}")
    return contents


def read_contents(path: PathLike, device: str | torch.device = "cpu", *, mapped: bool = False) -> Any:
    """Load what any file holds, without running anything in it; its tensors are on `device`.

    It reads torch.save's files of every version, pickles, `.safetensors`, `.npz`, `.npy`, the checkpoint in a `.mar`,
    and each of them in a `.gz`, `.bz2`, `.xz`, zip or tar. An object of any class that is not torch's or NumPy's own
    data becomes a `StandIn`.

    Args:
        path: the file.
        device: for the tensors, whatever device they were saved from.
        mapped: leave the tensors in the file and read them on use, which saves time and memory. Only for a file that
            is not overwritten in place meanwhile; replacing it, as this library does, is safe.

    Raises:
        CheckpointNotFoundError: the file does not exist.
        TruncatedCheckpointError: the file ends too early.
        LaterFormatError: a checkpoint of a later format than this version reads.
        NotACheckpointError: a file of another kind; the message names it and says what to do.
        CheckpointError: this machine does not have the device.
    """
    file = Path(path)
    if not file.exists():
        raise CheckpointNotFoundError(f"{file}: no such file")
    device = checked_device(device, str(file))
    if file.is_dir():
        raise _another_kind(str(file), kind_of_folder(file))
    if not file.is_file():  # reading it might wait forever
        raise NotACheckpointError(f"{file}: expected a file, found {_special(file)}; save the checkpoint to a file")
    with file.open("rb") as stream:
        contents = _read(stream, device, str(file), file if mapped else None)
    if isinstance(contents, dict):
        require_known_format(contents.get(METADATA), str(file))
    return contents


def _special(path: Path) -> str:
    """What something is that is neither a file nor a folder."""
    mode = path.stat().st_mode
    kinds = ((stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"))
    return next((name for test, name in kinds if test(mode)), "a block device")


def is_torch_zip_file(path: PathLike) -> bool:
    """Whether a file is what torch.save writes today, as it is: no `.safetensors`, no archive, not wrapped in anything.

    Example:
        >>> write_checkpoint({"model_state_dict": {"bias": torch.zeros(2)}}, "bias.safetensors")
        >>> is_torch_zip_file("bias.safetensors")
        False
    """
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except DAMAGED_ZIP:
        return False
    return MANIFEST not in names and is_torch_zip(names)


def checked_device(device: str | torch.device, source: str) -> torch.device:
    """The device, if this machine has it.

    Raises:
        CheckpointError: it does not; `source` names the file that cannot be loaded.
    """
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise CheckpointError(f"{source}: cannot be loaded to {str(device)!r}: {first_line(error)}") from error


def _read(stream: IO[bytes], device: torch.device, source: str, mapped: Path | None, depth: int = 0) -> Any:
    """What the stream holds; `mapped` is the file to map instead of reading, if any."""
    head = stream.read(_HEAD)
    stream.seek(0)
    if not head:
        raise TruncatedCheckpointError(f"{source}: the file is empty; download or copy it again")
    if is_safetensors(head):
        return _read_safetensors(stream, device, source, mapped)
    if head.startswith(_NPY):
        return {"weight": read_npy(stream, source)}
    if head.startswith(_ZIP):
        return _read_zip(stream, device, source, mapped, depth)
    if head.startswith(b"\x80"):
        return read_pickle(stream, device, source)
    if head[:1] in _EARLY_PICKLES:
        with suppress(CheckpointError):  # it is text
            return read_pickle(stream, device, source)
        stream.seek(0)
    return _read_wrapped(stream, device, source, depth)


def _read_zip(stream: IO[bytes], device: torch.device, source: str, mapped: Path | None, depth: int) -> Any:
    names = _zip_names(stream, source)
    if MANIFEST in names:
        return _read_archive(stream, device, source, depth)
    if is_torch_zip(names):
        return read_torch_zip(stream, device, source, mapped)
    return read_npz(stream, source) if is_npz(names) else _read_wrapped(stream, device, source, depth)


def _read_wrapped(stream: IO[bytes], device: torch.device, source: str, depth: int) -> Any:
    """What a container holds; of any other file, an error that says what it is."""
    if depth < _DEEPEST and (inner := unwrapped(stream, source, _MOST_UNPACKED)):
        with inner[0]:
            return _read(inner[0], device, inner[1], None, depth + 1)
    if kind := kind_of_stream(stream, source):
        raise _another_kind(source, kind)
    raise NotACheckpointError(f"{source}: expected a checkpoint, found a file of an unknown kind")


def _another_kind(source: str, kind: Kind) -> NotACheckpointError:
    return NotACheckpointError(f"{source}: expected a checkpoint, found {kind.name}; {kind.remedy}")


def _read_safetensors(stream: IO[bytes], device: torch.device, source: str, mapped: Path | None) -> dict[str, Any]:
    """The safetensors package reads files by their path only."""
    if isinstance(path := getattr(stream, "name", None), str) and path == source:
        return read_safetensors(Path(path), device, mapped=mapped is not None)
    with tempfile.NamedTemporaryFile(suffix=SUFFIX) as copy:
        shutil.copyfileobj(stream, copy, 2**20)
        copy.flush()
        return read_safetensors(Path(copy.name), device, mapped=False, source=source)


def _zip_names(stream: IO[bytes], source: str) -> list[str]:
    try:
        with zipfile.ZipFile(stream) as archive:
            return archive.namelist()
    except DAMAGED_ZIP as error:
        raise TruncatedCheckpointError(
            f"{source}: the file is damaged or ends too early: {first_line(error)}; download or copy it again"
        ) from error
    finally:
        stream.seek(0)


def _read_archive(stream: IO[bytes], device: torch.device, source: str, depth: int) -> Any:
    """The contents of the checkpoint in a .mar."""
    try:
        with zipfile.ZipFile(stream) as archive:
            manifest = orjson.loads(archive.read(MANIFEST))
            name = manifest["model"]["serializedFile"]
            inner = io.BytesIO(archive.read(name))
    except (TypeError, *DAMAGED_ZIP) as error:
        raise NotACheckpointError(f"{source}: an archive without a readable checkpoint: {first_line(error)}") from error
    if inner.getbuffer()[:4] == _ZIP and MANIFEST in _zip_names(inner, source):
        raise NotACheckpointError(f"{source}: expected a checkpoint in the archive, found another archive")
    return _read(inner, device, f"{source}!{name}", None, depth + 1)
