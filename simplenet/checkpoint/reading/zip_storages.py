"""The zip that torch.save writes: a pickle in `<root>/data.pkl` and each storage in `<root>/data/<key>`."""

import contextlib
import mmap
import sys
import zipfile
from pathlib import Path
from struct import Struct
from typing import IO, Any

import torch

from simplenet.checkpoint.reading.file_parts import Reader, descriptor_of, memory
from simplenet.checkpoint.reading.limits import Limits
from simplenet.checkpoint.reading.refusal import EndsTooEarly, Refused
from simplenet.checkpoint.reading.tensors import Storage, StorageType

_PICKLE = "/data.pkl"
_LOCAL_HEADER = Struct("<4s22xHH")
_LOCAL_MAGIC = b"PK\x03\x04"
_CHUNK = 1 << 20
_ENCRYPTED = 1  # a bit of an entry's flags
_ALIGNMENT = 16  # bytes; enough for every dtype
_MOST_DEFLATED = 1032  # times; more is not possible with deflate


class TorchZip:
    """The entries of one file, read only when they are asked for, and each storage once.

    Args:
        stream: the file.
        device: where storages go.
        limits: what reading may allocate.
        mapped: the file's path, to leave the numbers in it, in pages that are copied when they are written to.

    Raises:
        Refused: the zip holds no pickle of torch.save's.
    """

    def __init__(self, stream: IO[bytes], device: torch.device, limits: Limits, mapped: Path | None) -> None:
        self.archive = zipfile.ZipFile(stream)
        self.reader = Reader(stream)
        self.device = device
        self.limits = limits
        self.entries = {entry.filename: entry for entry in self.archive.infolist()}
        if len(self.entries) != len(self.archive.filelist):
            raise Refused("expected entries of different names, found two of the same name")
        self.root = root_of(list(self.entries))
        self.swapped = self._is_swapped()
        self.loaded: dict[str, torch.UntypedStorage] = {}
        self.map = None if mapped is None else _map(stream, mapped)

    def pickle(self) -> bytes:
        """The bytes of `data.pkl`."""
        return self._bytes(self.root + _PICKLE)

    def persistent(self, identity: Any) -> Any:
        """The storage that a persistent id `("storage", type, key, location, numel)` names.

        Raises:
            Refused: it is something else, there is no such entry, or it is smaller than that.
        """
        match identity:
            case ("storage", StorageType() as kind, str() | int() as key, _, int() as numel) if numel >= 0:
                name = f"{self.root}/data/{key}"
            case _:
                raise Refused("pickle: expected the persistent id of a storage, found something else")
        entry = self.entries.get(name)
        if entry is None:
            raise Refused(f"expected an entry {name[:100]!r}, found none")
        if entry.file_size < numel * kind.dtype.itemsize:
            raise Refused(
                f"{name}: expected {numel * kind.dtype.itemsize} bytes of numbers, found {entry.file_size} bytes"
            )
        return Storage(kind, lambda: self._load(name, kind.dtype))

    def _load(self, name: str, dtype: torch.dtype) -> torch.UntypedStorage:
        if name not in self.loaded:
            self.loaded[name] = self._read(self.entries[name], dtype)
        return self.loaded[name]

    def _read(self, entry: zipfile.ZipInfo, dtype: torch.dtype) -> torch.UntypedStorage:
        if entry.file_size == 0:
            return torch.UntypedStorage(0, device=self.device)
        numbers = self._mapped(entry)
        if numbers is None:
            made, view = memory(self._paid_for(entry))
            self._fill(view, entry)
            numbers = made.untyped_storage()
        if self.swapped or self.device.type != "cpu":
            self.reader.finish()
        if self.swapped:
            numbers.byteswap(dtype)
        return numbers if self.device.type == "cpu" else numbers.to(device=self.device)

    def _mapped(self, entry: zipfile.ZipInfo) -> torch.UntypedStorage | None:
        """The entry's pages in the file, or None if they cannot be used as they are."""
        if self.map is None or entry.compress_type != zipfile.ZIP_STORED:
            return None
        offset = self._offset(entry)
        return None if offset % _ALIGNMENT else self.map[offset : offset + entry.file_size]

    def _paid_for(self, entry: zipfile.ZipInfo) -> int:
        """The entry's size, if the limits allow it."""
        if entry.compress_type == zipfile.ZIP_STORED:
            if entry.compress_size != entry.file_size:
                raise Refused(f"{entry.filename}: expected {entry.file_size} bytes, found {entry.compress_size}")
            self.limits.held.spend(entry.file_size)
        elif entry.compress_type == zipfile.ZIP_DEFLATED:
            if entry.file_size > _MOST_DEFLATED * (entry.compress_size + 1):
                raise Refused(f"{entry.filename}: expected at most {_MOST_DEFLATED} times {entry.compress_size} bytes")
            self.limits.inflated.spend(entry.file_size)
        else:
            raise Refused(f"{entry.filename}: expected no compression or deflate, found type {entry.compress_type}")
        if entry.flag_bits & _ENCRYPTED:
            raise Refused(f"{entry.filename}: expected a file without a password, found an encrypted one")
        return entry.file_size

    def _fill(self, view: memoryview, entry: zipfile.ZipInfo) -> None:
        if entry.compress_type == zipfile.ZIP_STORED:
            # Zero is what torch.save writes if it was told to compute none.
            self.reader.fill(view, self._offset(entry), entry.CRC or None, entry.filename)
            return
        with self.archive.open(entry) as inflated:  # it verifies the CRC itself
            done = 0
            while done < len(view):
                part = inflated.read(min(len(view) - done, _CHUNK))
                view[done : done + len(part)] = part
                if not part:
                    raise EndsTooEarly(f"{entry.filename}: expected {len(view)} bytes, found {done}")
                done += len(part)
            if inflated.read(1):
                raise Refused(f"{entry.filename}: expected {len(view)} bytes, found more")

    def _offset(self, entry: zipfile.ZipInfo) -> int:
        """Where the bytes of a stored entry begin in the file."""
        name = entry.orig_filename.encode("utf-8" if entry.flag_bits & 0x800 else "cp437")
        header = self.reader.read(entry.header_offset, _LOCAL_HEADER.size + len(name))
        if len(header) < _LOCAL_HEADER.size:
            raise EndsTooEarly(f"{entry.filename}: expected an entry at byte {entry.header_offset}, found the end")
        magic, name_length, extra_length = _LOCAL_HEADER.unpack_from(header)
        if magic != _LOCAL_MAGIC or header[_LOCAL_HEADER.size :] != name or name_length != len(name):
            raise Refused(f"{entry.filename}: expected an entry at byte {entry.header_offset}, found something else")
        offset = int(entry.header_offset) + _LOCAL_HEADER.size + int(name_length) + int(extra_length)
        if offset + entry.file_size > self.archive.start_dir:
            raise EndsTooEarly(f"{entry.filename}: expected {entry.file_size} bytes, found the end of the entries")
        return offset

    def _bytes(self, name: str) -> bytes:
        entry = self.entries[name]
        made = bytearray(self._paid_for(entry))
        if made:
            self._fill(memoryview(made), entry)
            self.reader.finish()
        return bytes(made)

    def _is_swapped(self) -> bool:
        name = f"{self.root}/byteorder"
        order = self._bytes(name) if name in self.entries else b"little"
        if order not in (b"little", b"big"):
            raise Refused(f"{name}: expected 'little' or 'big', found {order[:20]!r}")
        return order.decode() != sys.byteorder


def root_of(names: list[str]) -> str:
    """The folder that everything in a file of torch.save's lies in.

    Raises:
        Refused: there is none, or more than one.

    Example:
        >>> root_of(["model/data.pkl", "model/data/0"])
        'model'
    """
    roots = [name.removesuffix(_PICKLE) for name in names if name.endswith(_PICKLE) and name.count("/") == 1]
    if len(roots) != 1 or not roots[0]:
        raise Refused(f"expected a zip with one <name>{_PICKLE}, found {len(roots)}")
    return roots[0]


def _map(stream: IO[bytes], path: Path) -> torch.UntypedStorage:
    """The file's pages; those of the stream, whatever has replaced the file at the path since."""
    with contextlib.ExitStack() as stack:
        number = descriptor_of(stream)
        if number is None:
            number = stack.enter_context(path.open("rb")).fileno()
        pages = mmap.mmap(number, 0, access=mmap.ACCESS_COPY)
    return torch.frombuffer(pages, dtype=torch.uint8).untyped_storage()
