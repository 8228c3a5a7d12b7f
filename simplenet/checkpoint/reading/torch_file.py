"""Files of torch.save and of pickle, read without importing or calling anything that they name."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch

from simplenet.checkpoint.reading.allowed import ALLOWED
from simplenet.checkpoint.reading.building import Builder
from simplenet.checkpoint.reading.file_parts import Reader
from simplenet.checkpoint.reading.legacy import LegacyStorages, is_legacy, run_pickles, start_of
from simplenet.checkpoint.reading.limits import Limits, size_of
from simplenet.checkpoint.reading.pickle_machine import PickleMachine
from simplenet.checkpoint.reading.refusal import EndsTooEarly, Refused, one_line
from simplenet.checkpoint.reading.tensors import Storage
from simplenet.checkpoint.reading.zip_storages import TorchZip, root_of

_ZIP = b"PK\x03\x04"
_FIRST_LOOK = 64  # bytes; torch's magic number is shorter
_FIRST_WINDOW = 1 << 22  # bytes; most pickles are smaller, and storages are not to be read twice


def is_torch_zip(names: list[str]) -> bool:
    """Whether a zip with these entries was written by torch.save, rather than torch.jit.save or something else.

    Example:
        >>> is_torch_zip(["model/data.pkl", "model/data/0", "model/version"])
        True
        >>> is_torch_zip(["model/data.pkl", "model/constants.pkl", "model/code/model.py"])
        False
    """
    try:
        root = root_of(names)
    except Refused:
        return False
    return not any(name == f"{root}/constants.pkl" or name.startswith(f"{root}/code/") for name in names)


def read_torch_zip(stream: IO[bytes], device: torch.device, source: str, mapped: Path | None = None) -> Any:
    """What a file of torch.save holds: tensors on `device`, plain values, and a `StandIn` for every other object.

    Args:
        stream: the file, or the bytes of one.
        device: for the tensors, whatever device they were saved from.
        source: names the file in errors.
        mapped: the stream's own path, to leave the numbers in the file: they are read on use, and not verified. Only
            for a file that is not overwritten in place meanwhile.

    Raises:
        TruncatedCheckpointError: the file ends too early.
        NotACheckpointError: it is damaged, or claims more than it holds; a storage that does not match its CRC-32
            is named.

    Example:
        >>> buffer = io.BytesIO()
        >>> torch.save({"bias": torch.zeros(2), "epoch": 3}, buffer)
        >>> read_torch_zip(buffer, torch.device("cpu"), "model.pt")
        {'bias': tensor([0., 0.]), 'epoch': 3}
    """
    with one_line(source):
        return _read_zip(stream, device, Limits.of(size_of(stream)), mapped)


def read_pickle(stream: IO[bytes], device: torch.device, source: str) -> Any:
    """What a file of pickle.dump holds, or one that torch.save wrote before torch 1.6; see `read_torch_zip`.

    Raises:
        TruncatedCheckpointError: the file ends too early.
        NotACheckpointError: it is damaged, claims more than it holds, or has something behind its end.

    Example:
        >>> import argparse, pickle
        >>> file = io.BytesIO(pickle.dumps({"options": argparse.Namespace(hidden=128)}))
        >>> options = read_pickle(file, torch.device("cpu"), "model.pkl")["options"]
        >>> options, options.state
        (<StandIn 'argparse.Namespace'>, {'hidden': 128})
    """
    with one_line(source):
        return _read_pickle(stream, device, Limits.of(size_of(stream)))


class _FileBuilder(Builder):
    """Makes the objects of a pickle in a file: knows its storages, and reads files inside it."""

    def __init__(self, device: torch.device, limits: Limits, storage_of: Callable[[Any], Any] | None = None) -> None:
        super().__init__(ALLOWED, limits.copies, limits.opcodes, device, limits.objects)
        self.limits = limits
        self.storage_of = storage_of

    def persistent(self, identity: Any) -> Any:
        return super().persistent(identity) if self.storage_of is None else self.storage_of(identity)

    def nested(self, data: bytes) -> Any:
        if self.limits.deeper <= 0:
            raise Refused("pickle: expected a file inside a file a few times at most, found more")
        limits, stream = self.limits.inside(len(data)), io.BytesIO(data)
        found = (
            _read_zip(stream, self.device, limits, None)
            if data[:4] == _ZIP
            else _read_pickle(stream, self.device, limits)
        )
        if isinstance(found, Storage):
            found.load()
        return found

    def check(self) -> None:
        """Validate the tensors whose numbers had to be read first."""
        for check in self.checks:
            check()


def _read_zip(stream: IO[bytes], device: torch.device, limits: Limits, mapped: Path | None) -> Any:
    file = TorchZip(stream, device, limits, mapped)
    with contextlib.closing(file.reader):
        builder = _FileBuilder(device, limits, file.persistent)
        found = PickleMachine(file.pickle(), builder).run()
        file.reader.finish()
        builder.check()
    return found


def _read_pickle(stream: IO[bytes], device: torch.device, limits: Limits) -> Any:
    size = size_of(stream)
    if is_legacy(stream.read(_FIRST_LOOK)):
        return _read_legacy(stream, size, device, limits)
    builder = _FileBuilder(device, limits)
    machine = PickleMachine(start_of(stream, size), builder)
    found = machine.run()
    if machine.at != size:
        raise Refused(f"expected the end of the file after a pickle, found {size - machine.at} more bytes")
    builder.check()
    return found


def _read_legacy(stream: IO[bytes], size: int, device: torch.device, limits: Limits) -> Any:
    window = _FIRST_WINDOW
    while True:
        storages = LegacyStorages(device, size)
        builder = _FileBuilder(device, limits, storages.persistent)
        try:
            found, keys, at = run_pickles(start_of(stream, window), builder)
            break
        except EndsTooEarly:
            if window >= size:
                raise
            window *= 4
    with contextlib.closing(Reader(stream)) as reader:
        storages.fill(keys, reader, at, size)
        reader.finish()
    builder.check()
    return found
