"""The format of torch.save before torch 1.6: five pickles in a row, then the numbers of each storage.

The pickles are a magic number, the version of the format, facts about the machine, the object, and the keys of the
storages in the order in which their numbers follow.
"""

from struct import Struct
from typing import IO, Any

import torch

from simplenet.checkpoint.reading.building import Builder
from simplenet.checkpoint.reading.file_parts import Reader, as_bytes, memory
from simplenet.checkpoint.reading.pickle_machine import PickleMachine
from simplenet.checkpoint.reading.refusal import Budget, EndsTooEarly, Refused
from simplenet.checkpoint.reading.tensors import Storage, StorageType

MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_COUNT = Struct("<q")
_LARGEST = (1 << 63) - 1


def is_legacy(start: bytes) -> bool:
    """Whether a file that begins like this is in that format.

    Example:
        >>> import pickle
        >>> is_legacy(pickle.dumps(MAGIC, protocol=2) + pickle.dumps(1001, protocol=2)), is_legacy(pickle.dumps({}))
        (True, False)
    """
    try:
        magic = PickleMachine(start, Builder()).run()
    except Refused:
        return False
    return type(magic) is int and magic == MAGIC


class _Numbers:
    """One storage of the file: its memory is there before its numbers are."""

    def __init__(self, nbytes: int, device: torch.device, held: Budget) -> None:
        self.nbytes = nbytes
        self.device = device
        self.held = held
        self.storage: torch.UntypedStorage | None = None

    def load(self) -> torch.UntypedStorage:
        if self.storage is None:
            self.held.spend(self.nbytes)
            if self.device.type == "cpu":
                self.storage = memory(self.nbytes)[0].untyped_storage()
            else:
                self.storage = torch.UntypedStorage(self.nbytes, device=self.device)
        return self.storage

    def fill(self, reader: Reader, offset: int, name: str) -> None:
        target = torch.empty((0,), dtype=torch.uint8, device=self.device).set_(self.load())
        if self.device.type == "cpu":
            reader.fill(as_bytes(target), offset, None, name)
            return
        made, view = memory(self.nbytes)
        reader.fill(view, offset, None, name)
        reader.finish()
        target.copy_(made)


class LegacyStorages:
    """The storages that the object's pickle names, to be filled when it has been read."""

    def __init__(self, device: torch.device, size: int) -> None:
        self.device = device
        self.held = Budget(size)
        self.numbers: dict[str | int, _Numbers] = {}
        self.item_sizes: dict[str | int, int] = {}
        self.views: dict[str | int, Storage] = {}

    def persistent(self, identity: Any) -> Any:
        """The storage that `("storage", type, key, location, numel, view)` names, or the class in `("module", ...)`.

        Raises:
            Refused: it is something else, or a view beyond its storage.
        """
        match identity:
            case ("module", kind, _, _):
                return kind
            case ("storage", StorageType() as kind, str() | int() as key, _, int() as numel, view) if (
                0 <= numel <= _LARGEST
            ):
                return self._storage(kind, key, numel, view)
            case _:
                raise Refused("pickle: expected the persistent id of a storage, found something else")

    def _storage(self, kind: StorageType, key: str | int, numel: int, view: Any) -> Storage:
        nbytes = numel * kind.dtype.itemsize
        if key not in self.numbers:
            self.numbers[key] = _Numbers(nbytes, self.device, self.held)
            self.item_sizes[key] = kind.dtype.itemsize
        numbers = self.numbers[key]
        if numbers.nbytes < nbytes:
            raise Refused(f"storage {str(key)[:40]}: expected one size, found {numbers.nbytes} and {nbytes} bytes")
        match view:
            case None:
                return Storage(kind, numbers.load)
            case (str() | int() as name, int() as offset, int() as count) if offset >= 0 and count >= 0:
                return self._view(kind, numbers, name, offset * kind.dtype.itemsize, count * kind.dtype.itemsize)
            case _:
                raise Refused("pickle: expected the view of a storage, found something else")

    def _view(self, kind: StorageType, numbers: _Numbers, name: str | int, start: int, nbytes: int) -> Storage:
        if start + nbytes > numbers.nbytes:
            raise Refused(f"storage {str(name)[:40]}: expected a view of {numbers.nbytes} bytes, found one beyond them")
        if name not in self.views:
            self.views[name] = Storage(kind, lambda: numbers.load()[start : start + nbytes])
        return self.views[name]

    def fill(self, keys: Any, reader: Reader, at: int, size: int) -> None:
        """Read the numbers of the storages `keys` from position `at` of a file of `size` bytes.

        Raises:
            EndsTooEarly: the file ends before they do.
            Refused: they are not the storages that the pickle names, or there is something behind them.
        """
        if type(keys) is not list or not all(type(key) in (str, int) for key in keys):
            raise Refused("pickle: expected the keys of the storages, found something else")
        if len(set(keys)) != len(keys) or set(keys) != set(self.numbers):
            raise Refused(f"expected the numbers of {len(self.numbers)} storages, found those of {len(keys)}")
        for key in keys:
            name, numbers = f"storage {str(key)[:40]}", self.numbers[key]
            header = reader.read(at, _COUNT.size)
            if len(header) < _COUNT.size:
                raise EndsTooEarly(f"{name}: expected {numbers.nbytes} bytes, found the end of the file")
            nbytes = _COUNT.unpack(header)[0] * self.item_sizes[key]
            at += _COUNT.size
            if nbytes != numbers.nbytes:
                raise Refused(f"{name}: expected {numbers.nbytes} bytes, found {nbytes}")
            if at + nbytes > size:
                raise EndsTooEarly(f"{name}: expected {nbytes} bytes, found {size - at}")
            numbers.fill(reader, at, name)
            at += nbytes
        if at != size:
            raise Refused(f"expected the end of the file after the last storage, found {size - at} more bytes")


def run_pickles(data: bytes, builder: Builder) -> tuple[Any, Any, int]:
    """The object and the keys in the five pickles, and where they end.

    Raises:
        EndsTooEarly: `data` ends before they do.
        Refused: they are damaged, or of another version.
    """
    at, found = 0, []
    for number in range(5):
        machine = PickleMachine(data, builder if number == 3 else Builder())
        found.append(machine.run(at))
        at = machine.at
        if number == 1 and (type(found[1]) is not int or found[1] != _VERSION):
            raise Refused(f"expected version {_VERSION} of torch's old format, found {str(found[1])[:20]}")
    return found[3], found[4], at


def start_of(stream: IO[bytes], size: int) -> bytes:
    """The first `size` bytes."""
    stream.seek(0)
    return stream.read(size)
