"""Files by a local path or an s3:// address: the same functions, and never half a file.

An upload carries the file's SHA-256 twice: as S3's own checksum, which the server compares with what arrived, and
as the object's `sha256` metadata, which `download` compares with what came back before the file gets its name.
boto3 is imported only when an s3:// address is used, torch only to make a network's file or to read one.

A progress callback `on_bytes` is called with the number of bytes moved since the last call, perhaps from another
thread but never from two at once; the number is negative where bytes have to be moved again.
"""

import hashlib
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simplenet.atomic import atomic_write
from simplenet.errors import ChecksumError, ConnectionLostError, ObjectNotFoundError, SimpleNetError, StorageError
from simplenet.paths import PathLike
from simplenet.s3 import disk_trouble, s3_client, transfer_config

if TYPE_CHECKING:
    pass

SHA256_METADATA = "sha256"  # the user metadata in which an object carries its hash, as 64 hex digits
DOWNLOAD_ATTEMPTS = 3  # to fetch a whole object, when the attempts to fetch its parts were in vain
BACKOFF_S = 0.5  # before the second of those attempts; twice as long before each further one

OnBytes = Callable[[int], None]


@dataclass(frozen=True)
class StoredFile:
    """One entry of a listing."""

    address: str  # a path, or s3://bucket/key
    size: int  # bytes
    modified: datetime  # UTC


def is_remote(location: PathLike) -> bool:
    """Whether the location is an s3:// address; a Path, which makes `s3:/` of it, is still understood."""
    return os.fspath(location).startswith("s3:/")


def parse_address(address: PathLike) -> tuple[str, str]:
    """The bucket and the key of `s3://bucket/key`.

    Raises:
        StorageError: the address is of another form, or names a folder.
    """
    bucket, key = _parse_folder(address)
    if "\0" in key or key.rpartition("/")[2] in ("", ".", ".."):
        raise StorageError(f"{os.fspath(address)}: expected s3://bucket/key, found no file name at the end")
    return bucket, key


def upload(path: PathLike, location: PathLike, *, on_bytes: OnBytes | None = None) -> None:
    """Store the file `path` at `location`, whole or not at all, replacing what was there.

    Raises:
        StorageError: one of its kinds, naming the address, the cause and the remedy.
    """
    if not is_remote(location):
        return _copy(Path(path), Path(location), on_bytes)
    bucket, key = parse_address(location)
    address = f"s3://{bucket}/{key}"
    _require_file(Path(path))
    with s3_client(address, f"cannot read {path}") as client, Path(path).open("rb") as file:
        before = os.fstat(file.fileno())
        extra: dict[str, Any] = {"Metadata": {SHA256_METADATA: _sha256(file.fileno())}}
        if client.meta.config.request_checksum_calculation != "when_required":  # how a user spares an old server
            extra["ChecksumAlgorithm"] = "SHA256"
        with os.fdopen(os.dup(file.fileno()), "rb") as sent:  # boto3 closes what it is given
            client.upload_fileobj(sent, bucket, key, extra, _Progress(on_bytes), transfer_config())
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ChecksumError(f"{address}: {path} was written to during the upload; upload it again")
    return None


def download(location: PathLike, path: PathLike, *, on_bytes: OnBytes | None = None) -> None:
    """Fetch `location` to the file `path`, verify its size and SHA-256, and only then give it its name.

    An object that somebody else uploaded carries no SHA-256 of ours: its size is verified, and S3's own checksum
    where there is one.

    Raises:
        StorageError: one of its kinds, naming the address, the cause and the remedy; `path` is as it was.
    """
    if not is_remote(location):
        return _copy(Path(location), Path(path), on_bytes)
    bucket, key = parse_address(location)
    attempt = 1
    while True:
        try:
            return _receive(bucket, key, Path(path), on_bytes)
        except (ChecksumError, ConnectionLostError) as error:
            # Bytes spoilt on the way are worth a second look; what is spoilt in the bucket stays so.
            if attempt >= (2 if isinstance(error, ChecksumError) else DOWNLOAD_ATTEMPTS):
                raise
        time.sleep(BACKOFF_S * 2 ** (attempt - 1))
        attempt += 1


@contextmanager
def local_copy(location: PathLike, *, on_bytes: OnBytes | None = None) -> Iterator[Path]:
    """The path itself where it is local; else a verified download under the object's name, removed at exit.

    A SimpleNetError that is raised inside names the address instead of the temporary file.

    Raises:
        StorageError: as `download` does.
    """
    if not is_remote(location):
        yield Path(location)
        return
    bucket, key = parse_address(location)
    address = f"s3://{bucket}/{key}"
    with _private_folder(address) as folder:
        path = folder / key.rpartition("/")[2]
        download(address, path, on_bytes=on_bytes)
        try:
            yield path
        except SimpleNetError as error:
            error.args = (str(error).replace(str(path), address),)
            raise


@contextmanager
def local_output(location: PathLike) -> Iterator[Path]:
    """A path to write to: the location itself, or a private file that is uploaded when the body is done.

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
        StorageError: an upload fails, or an object is there already and `replace` is false.
    """
    if not is_remote(location):
        yield Path(location)
        return
    bucket, prefix = _parse_folder(location)
    address = f"s3://{bucket}/{prefix.rstrip('/')}".rstrip("/")
    there = set() if replace else {stored.address for stored in list_objects(address)}
    with _private_folder(address) as folder:
        yield folder
        for file in sorted(folder.iterdir()):
            if f"{address}/{file.name}" in there:
                raise StorageError(f"{address}/{file.name}: exists already; give --force to replace it")
            upload(file, f"{address}/{file.name}")


def list_objects(location: PathLike) -> list[StoredFile]:
    """The files under `s3://bucket[/folder]` or a local folder, at any depth, by address; hidden ones left out.

    Raises:
        StorageError: one of its kinds; a bucket or a local folder that is not there is an ObjectNotFoundError,
            a folder inside a bucket exists only by its files.
    """
    if not is_remote(location):
        return _list_local(Path(location))
    bucket, folder = _parse_folder(location)
    prefix = f"{folder.rstrip('/')}/" if folder else ""
    files = []
    with s3_client(f"s3://{bucket}/{prefix}", "cannot list") as client:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                key = entry["Key"]
                if not key.endswith("/") and not _hidden(key.removeprefix(prefix)):  # "folder/" marks an empty one
                    files.append(StoredFile(f"s3://{bucket}/{key}", entry["Size"], entry["LastModified"]))
    return sorted(files, key=lambda file: file.address)


def _parse_folder(address: PathLike) -> tuple[str, str]:
    match = re.fullmatch(r"s3:/{1,2}([^/]+)/?(.*)", os.fspath(address), re.DOTALL)
    if not match:
        raise StorageError(f"{os.fspath(address)}: expected s3://bucket/key, found no bucket")
    return match[1], match[2]


class _Progress:
    """Calls `on_bytes`, one call at a time although several threads move the parts."""

    def __init__(self, on_bytes: OnBytes | None) -> None:
        self._on_bytes = on_bytes
        self._lock = threading.Lock()
        self._moved = 0

    def __call__(self, number: int) -> None:
        with self._lock:
            self._moved += number
            if self._on_bytes and number:
                self._on_bytes(number)

    def rewind(self) -> None:
        self(-self._moved)


def _receive(bucket: str, key: str, path: Path, on_bytes: OnBytes | None) -> None:
    address = f"s3://{bucket}/{key}"
    progress = _Progress(on_bytes)
    try:
        with s3_client(address, f"cannot write {path}") as client:
            head = client.head_object(Bucket=bucket, Key=key)
            with atomic_write(path) as file:
                client.download_fileobj(bucket, key, file, None, progress, transfer_config())
                file.flush()
                _verify(file.fileno(), head, address)
    except StorageError:
        progress.rewind()
        raise


def _verify(descriptor: int, head: dict[str, Any], address: str) -> None:
    """Compare what was written with the size and the SHA-256 that the object's headers promised."""
    size = os.fstat(descriptor).st_size
    if size != head["ContentLength"]:
        raise ChecksumError(f"{address}: expected {head['ContentLength']} bytes, found {size}; nothing was kept")
    expected = head["Metadata"].get(SHA256_METADATA, "").lower()
    if not re.fullmatch("[0-9a-f]{64}", expected):
        return  # somebody else's upload
    found = _sha256(descriptor)
    if found != expected:
        raise ChecksumError(
            f"{address}: expected SHA-256 {expected}, found {found}; nothing was kept, upload the file again"
        )


def _sha256(descriptor: int) -> str:
    """The hash of a whole open file, wherever its position is."""
    digest = hashlib.sha256()
    offset = 0
    while chunk := os.pread(descriptor, 1024 * 1024, offset):
        digest.update(chunk)
        offset += len(chunk)
    return digest.hexdigest()


def _copy(source: Path, target: Path, on_bytes: OnBytes | None) -> None:
    _require_file(source)
    try:
        with source.open("rb") as reader, atomic_write(target) as writer:
            while chunk := reader.read(1024 * 1024):
                writer.write(chunk)
                if on_bytes:
                    on_bytes(len(chunk))
    except OSError as error:
        raise StorageError(f"{source}: cannot copy to {target}: {disk_trouble(error)}") from error


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
                status = path.stat()
                modified = datetime.fromtimestamp(status.st_mtime, timezone.utc)
                files.append(StoredFile(str(path), status.st_size, modified))
    return sorted(files, key=lambda file: file.address)


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


@contextmanager
def _private_folder(address: str) -> Iterator[Path]:
    try:
        folder = tempfile.TemporaryDirectory(prefix="simplenet-")
    except OSError as error:
        raise StorageError(f"{address}: no temporary folder (TMPDIR): {disk_trouble(error)}") from error
    with folder as name:
        yield Path(name)
