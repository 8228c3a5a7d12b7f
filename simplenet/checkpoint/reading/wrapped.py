"""Files that wrap one checkpoint: .gz, .bz2, .xz, a zip or a tar. They are recognised by their bytes, not their name.

Nothing is written where a member's name says: what is unpacked goes to memory, or to a file without a name.
"""

import bz2
import errno
import gzip
import io
import lzma
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import IO, Any

from simplenet.checkpoint.reading.kind import is_training_state
from simplenet.checkpoint.reading.numpy_files import DAMAGED, is_npz, read_npy, read_npz
from simplenet.errors import CheckpointError, NotACheckpointError, TruncatedCheckpointError
from simplenet.manifest import MANIFEST, MAX_INFLATION
from simplenet.text import first_line, quoted

__all__ = ["is_npz", "read_npy", "read_npz", "unwrapped"]

FLOOR = 64 * 2**20  # bytes that anything may unpack to, however small it is; also what is kept in memory
_CHUNK = 2**20
_CHECKPOINTS = (
    *(".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".pkl", ".pickle", ".th", ".tar", ".model", ".weights"),
    *(".params", ".npz", ".npy", ".mar", ".gz", ".bz2", ".xz", ".tgz", ".zip"),
)
# In a zip that is one file as a whole: of torch.save, TorchScript, torch.export, TensorFlow.
_WHOLES = {"data.pkl", "constants.pkl", "archive_format", "saved_model.pb"}
_OTHERS = (
    *(
        ".txt",
        ".json",
        ".yaml",
        ".yml",
        ".md",
        ".rst",
        ".py",
        ".ipynb",
        ".csv",
        ".tsv",
        ".log",
        ".cfg",
        ".ini",
        ".toml",
    ),
    *(".png", ".jpg", ".jpeg", ".gif", ".pdf", ".html", ".xml", ".sh", ".sha256", ".md5", ".onnx", ".h5", ".pb"),
)


def unwrapped(stream: IO[bytes], source: str, limit: int) -> tuple[IO[bytes], str] | None:
    """The one checkpoint inside the container that the stream holds, and its name; None if it is no container.

    One layer is unwrapped. A zip that is itself a checkpoint (of torch.save, NumPy, TorchServe) is no container.

    Args:
        stream: seekable; left at its start.
        source: its name, in messages and in the name of what is inside: "model.zip!model.pt".
        limit: bytes that may be unpacked. Beyond 64 MiB, so is 100 times the container's size.

    Returns:
        A seekable stream, for the caller to close, and its name.

    Raises:
        NotACheckpointError: there are several candidates, one is encrypted, or it unpacks to more than is allowed.
        TruncatedCheckpointError: the container is damaged or ends too early.

    Example:
        >>> inner, name = unwrapped(io.BytesIO(gzip.compress(b"weights")), "model.pt.gz", 1000)
        >>> name, inner.read()
        ('model.pt.gz!model.pt', b'weights')
    """
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    start = stream.read(265)
    stream.seek(0)
    unwrap = _unwrapper(start)
    if unwrap is None:
        return None
    try:
        return unwrap(stream, source, min(limit, max(FLOOR, MAX_INFLATION * size)))
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise CheckpointError(
                f"{source}: {tempfile.gettempdir()} is too full to unpack it: free space there"
            ) from error
        raise TruncatedCheckpointError(
            f"{source}: damaged, or ends too early: {first_line(error)}; copy or download it again"
        ) from error
    finally:
        stream.seek(0)


_Unwrapper = Callable[[IO[bytes], str, int], "tuple[IO[bytes], str] | None"]
_PACKED: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda stream: gzip.GzipFile(fileobj=stream),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}


def _unwrapper(start: bytes) -> _Unwrapper | None:
    for magic, opened in _PACKED.items():
        if start.startswith(magic):
            return partial(_decompressed, opened)
    if start.startswith(b"PK\x03\x04"):
        return _from_zip
    return _from_tar if start[257:262] == b"ustar" else None


def _decompressed(
    opened: Callable[[IO[bytes]], Any], stream: IO[bytes], source: str, limit: int
) -> tuple[IO[bytes], str]:
    name = PurePosixPath(source.replace("\\", "/")).name
    stem, _, suffix = name.rpartition(".")
    inner = f"{stem}.tar" if suffix == "tgz" else stem if suffix in ("gz", "bz2", "xz") else "contents"
    with opened(stream) as packed:
        return _spooled(packed, f"{source}!{inner}", limit), f"{source}!{inner}"


def _from_zip(stream: IO[bytes], source: str, limit: int) -> tuple[IO[bytes], str] | None:
    with zipfile.ZipFile(stream) as archive:
        names = archive.namelist()
        if MANIFEST in names or is_npz(names) or not _WHOLES.isdisjoint(PurePosixPath(name).name for name in names):
            return None
        name = _only_candidate([item.filename for item in archive.infolist() if not item.is_dir()], source)
        if name is None:
            return None
        if archive.getinfo(name).flag_bits & 1:
            raise NotACheckpointError(f"{source}!{name}: encrypted; unpack it with its password, and name the file")
        with archive.open(name) as member:
            return _spooled(member, f"{source}!{name}", limit), f"{source}!{name}"


def _from_tar(stream: IO[bytes], source: str, limit: int) -> tuple[IO[bytes], str] | None:
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        members = {item.name: item for item in archive if item.isreg()}
        if {"pickle", "storages", "tensors"} <= {PurePosixPath(name).name for name in members}:  # torch before 0.1.10
            return None
        name = _only_candidate(list(members), source)
        member = archive.extractfile(members[name]) if name is not None else None
        if member is None:
            return None
        with member:
            return _spooled(member, f"{source}!{name}", limit), f"{source}!{name}"


def _only_candidate(names: Sequence[str], source: str) -> str | None:
    """The one member that looks like a checkpoint; one of an unknown suffix counts if there is no other."""
    paths = [
        path
        for path in map(PurePosixPath, names)
        if "__MACOSX" not in path.parts and not path.name.startswith(".") and not path.name.upper().startswith("README")
    ]
    known = [path for path in paths if path.suffix.lower() in _CHECKPOINTS]
    others = [path for path in paths if path.suffix.lower() not in (*_CHECKPOINTS, *_OTHERS)]
    # Stable-Baselines3 puts policy.pth beside policy.optimizer.pth and pytorch_variables.pth
    known = [path for path in known if not is_training_state(path.name)] or known
    if len(known) > 1:
        raise NotACheckpointError(
            f"{source}: expected one checkpoint in it, found {len(known)}: {quoted(known)}; unpack it, and name one"
        )
    found = known or (others if len(others) == 1 else [])
    return next((name for name in names if found and PurePosixPath(name) == found[0]), None)


def _spooled(packed: IO[bytes], source: str, limit: int) -> IO[bytes]:
    """What the packed stream holds, in memory or, if it is large, in a temporary file without a name."""
    unpacked: IO[bytes] = io.BytesIO()
    try:
        while chunk := packed.read(_CHUNK):
            if (total := unpacked.tell() + len(chunk)) > limit:
                raise NotACheckpointError(
                    f"{source}: expected to unpack to at most {limit:,} bytes, found more; unpack it, and name the file"
                )
            if total > FLOOR and isinstance(unpacked, io.BytesIO):
                unpacked = _on_disk(unpacked)
            unpacked.write(chunk)
    except BaseException:
        unpacked.close()
        raise
    unpacked.seek(0)
    return unpacked


def _on_disk(unpacked: io.BytesIO) -> IO[bytes]:
    file: IO[Any] = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.write(unpacked.getbuffer())
    return file
