"""Files at a local path or an s3:// address: the same functions for both, and never half a file.

An upload carries the file's SHA-256 twice: as S3's own checksum, which the server compares with the bytes it receives,
and as the object's `sha256` metadata, which `download` compares with the bytes it receives before it names the file.

To add a scheme such as gs://, start in this file: `SCHEME` tells an address from a path, and a module beside
`simplenet.s3` provides the same three functions, `put`, `open_object` and `list_keys`.
"""

import errno
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

from simplenet import s3
from simplenet.atomic import atomic_write
from simplenet.errors import ChecksumError, ConnectionLostError, ObjectNotFoundError, SimpleNetError, StorageError
from simplenet.paths import PathLike

SCHEME = "s3:/"  # a Path turns two slashes into one; both are accepted
SHA256_METADATA = "sha256"  # the user metadata that holds an object's hash, as 64 hex digits
DOWNLOAD_ATTEMPTS = 3  # to fetch the complete object, after the attempts to fetch its parts failed
BACKOFF_S = 0.5  # before the second of those attempts; doubled before each further one


@dataclass(frozen=True)
class StoredFile:
    """One entry of a listing."""

    address: str  # a path, or s3://bucket/key
    modified: datetime  # UTC


def is_remote(location: PathLike) -> bool:
    """Whether the location is an address such as s3://bucket/key, or a Path made from one."""
    return os.fspath(location).startswith(SCHEME)


def parse_address(address: PathLike) -> tuple[str, str]:
    """The bucket and the key of `s3://bucket/key`.

    Raises:
        StorageError: the address has another form, or names a folder.
    """
    bucket, key = _parse_folder(address)
    if "\0" in key or key.rpartition("/")[2] in ("", ".", ".."):
        raise StorageError(f"{os.fspath(address)}: expected s3://bucket/key, found no file name at the end")
    return bucket, key


def upload(path: PathLike, location: PathLike) -> None:
    """Store the file `path` at `location`, whole or not at all, replacing any earlier file.

    Raises:
        StorageError: one of its subclasses, naming the address, the cause and the remedy.
    """
    if not is_remote(location):
        return _copy(Path(path), Path(location))
    bucket, key = parse_address(location)
    address = _address(bucket, key)
    _require_file(Path(path))
    with _disk_errors(f"{address}: cannot read {path}"), Path(path).open("rb") as file:
        before = os.fstat(file.fileno())
        s3.put(bucket, key, file, {SHA256_METADATA: _sha256(file)})
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ChecksumError(f"{address}: {path} was written to during the upload; upload it again")
    return None


def download(location: PathLike, path: PathLike) -> None:
    """Fetch `location` to the file `path`, verify its size and SHA-256, and only then give it its name.

    An object that another program uploaded has no such SHA-256: only its size is verified, and S3's own checksum if
    there is one.

    Raises:
        StorageError: one of its subclasses, naming the address, the cause and the remedy; `path` is unchanged.
    """
    if not is_remote(location):
        return _copy(Path(location), Path(path))
    bucket, key = parse_address(location)
    attempt = 1
    while True:
        try:
            return _receive(bucket, key, Path(path))
        except (ChecksumError, ConnectionLostError) as error:
            # Damage in transit is worth a second attempt; damage in the bucket stays.
            if attempt >= (2 if isinstance(error, ChecksumError) else DOWNLOAD_ATTEMPTS):
                raise
        time.sleep(BACKOFF_S * 2 ** (attempt - 1))
        attempt += 1


@contextmanager
def local_copy(location: PathLike) -> Iterator[Path]:
    """The path itself if it is local; else a verified download under the object's name, removed at exit.

    A SimpleNetError raised in the body names the address instead of the temporary file.

    Raises:
        StorageError: as for `download`.
    """
    if not is_remote(location):
        yield Path(location)
        return
    bucket, key = parse_address(location)
    address = _address(bucket, key)
    with _private_folder(address) as folder:
        path = folder / key.rpartition("/")[2]
        download(address, path)
        try:
            yield path
        except SimpleNetError as error:
            error.args = (str(error).replace(str(path), address),)
            raise


@contextmanager
def local_output(location: PathLike) -> Iterator[Path]:
    """A path to write to: the location itself, or a private file that is uploaded when the body ends.

    Raises:
        StorageError: the address is wrong, or the upload fails.
    """
    if not is_remote(location):
        yield Path(location)
        return
    _, key = parse_address(location)
    with _private_folder(str(location)) as folder:
        path = folder / Path(key).name
        yield path
        upload(path, location)


@contextmanager
def local_folder(location: PathLike, *, replace: bool = True) -> Iterator[Path]:
    """A folder to write files to: the location itself, or a private one whose files are uploaded under the prefix.

    Raises:
        StorageError: an upload fails, or an object exists and `replace` is false.
    """
    if not is_remote(location):
        yield Path(location)
        return
    bucket, prefix = _parse_folder(location)
    address = _address(bucket, prefix).rstrip("/")
    existing = set() if replace else {stored.address for stored in list_objects(address)}
    with _private_folder(address) as folder:
        yield folder
        for file in sorted(folder.iterdir()):
            if f"{address}/{file.name}" in existing:
                raise StorageError(f"{address}/{file.name}: exists already; give --force to replace it")
            upload(file, f"{address}/{file.name}")


def list_objects(location: PathLike) -> list[StoredFile]:
    """The files under `s3://bucket[/folder]` or a local folder, at any depth, by address, without hidden ones.

    Raises:
        StorageError: one of its subclasses; ObjectNotFoundError for a missing bucket or local folder. A folder inside
            a bucket exists only through its files.
    """
    if not is_remote(location):
        return _list_local(Path(location))
    bucket, folder = _parse_folder(location)
    prefix = f"{folder.rstrip('/')}/" if folder else ""
    files = []
    for key, modified in s3.list_keys(bucket, prefix):
        if not key.endswith("/") and not _hidden(key.removeprefix(prefix)):  # "folder/" marks an empty one
            files.append(StoredFile(_address(bucket, key), modified))
    return sorted(files, key=lambda file: file.address)


def _parse_folder(address: PathLike) -> tuple[str, str]:
    match = re.fullmatch(rf"{SCHEME}/?([^/]+)/?(.*)", os.fspath(address), re.DOTALL)
    if not match:
        raise StorageError(f"{os.fspath(address)}: expected s3://bucket/key, found no bucket")
    return match[1], match[2]


def _address(bucket: str, key: str) -> str:
    return f"{SCHEME}/{bucket}/{key}"


def _receive(bucket: str, key: str, path: Path) -> None:
    address = _address(bucket, key)
    with (
        _disk_errors(f"{address}: cannot write {path}"),
        s3.open_object(bucket, key) as stored,
        atomic_write(path) as file,
    ):
        stored.fetch(file)
        file.flush()
        _verify(file, stored, address)


def _verify(file: IO[bytes], stored: s3.StoredObject, address: str) -> None:
    """Compare the written file with the size and the SHA-256 in the object's headers."""
    size = os.fstat(file.fileno()).st_size
    if size != stored.size:
        raise ChecksumError(f"{address}: expected {stored.size} bytes, found {size}; nothing was kept")
    expected = stored.metadata.get(SHA256_METADATA, "").lower()
    if not re.fullmatch("[0-9a-f]{64}", expected):
        return  # uploaded by another program
    sha256 = _sha256(file)
    if sha256 != expected:
        raise ChecksumError(
            f"{address}: expected SHA-256 {expected}, found {sha256}; nothing was kept, upload the file again"
        )


def _sha256(file: IO[bytes]) -> str:
    """The hash of an open file from its beginning, whatever its position."""
    digest = hashlib.sha256()
    offset = 0
    while chunk := os.pread(file.fileno(), 1024 * 1024, offset):
        digest.update(chunk)
        offset += len(chunk)
    return digest.hexdigest()


def _copy(source: Path, target: Path) -> None:
    _require_file(source)
    with (
        _disk_errors(f"{source}: cannot copy to {target}"),
        source.open("rb") as reader,
        atomic_write(target) as writer,
    ):
        shutil.copyfileobj(reader, writer, 1024 * 1024)


@contextmanager
def _disk_errors(message: str) -> Iterator[None]:
    """Turn an OSError of a local file into a StorageError: the message, the cause and the remedy."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space or choose another disk" if full else "look at the path and its permissions"
        raise StorageError(f"{message}: {error.strerror or error}; {remedy}") from error


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise ObjectNotFoundError(f"{path}: expected a file, found {'a folder' if path.is_dir() else 'nothing'}")


def _list_local(folder: Path) -> list[StoredFile]:
    if not folder.is_dir():
        raise ObjectNotFoundError(f"{folder}: expected a folder, found {'a file' if folder.exists() else 'nothing'}")
    files = []
    for path in folder.rglob("*"):
        if path.is_file() and not _hidden(path.relative_to(folder).as_posix()):
            with suppress(FileNotFoundError):  # removed meanwhile
                modified = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc)
                files.append(StoredFile(str(path), modified))
    return sorted(files, key=lambda file: file.address)


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


@contextmanager
def _private_folder(address: str) -> Iterator[Path]:
    with _disk_errors(f"{address}: no temporary folder (TMPDIR)"):
        folder = tempfile.TemporaryDirectory(prefix="simplenet-")
    with folder as name:
        yield Path(name)
