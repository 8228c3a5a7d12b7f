"""The numbers of a storage, from a file into memory: read in place, checked against their CRC, several at a time."""

import contextlib
import io
import os
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any

import torch

from simplenet.checkpoint.reading.refusal import EndsTooEarly, WrongChecksum

_CHUNK = 1 << 18  # bytes: the CRC is computed while they are in the processor's cache
_WORTH_A_THREAD = 1 << 20
_WORTH_A_CHECKER = 1 << 22
_MOST_THREADS = 4


def memory(nbytes: int) -> tuple[torch.Tensor, memoryview]:
    """New memory of `nbytes`, as a uint8 tensor on the CPU and as bytes to read into.

    Raises:
        MemoryError: there is not that much.
    """
    try:
        made = torch.empty((nbytes,), dtype=torch.uint8, device="cpu")
    except RuntimeError as error:
        raise MemoryError(f"{nbytes} bytes") from error
    return made, as_bytes(made)


def as_bytes(tensor: torch.Tensor) -> memoryview:
    """The memory of a uint8 tensor on the CPU."""
    array: Any = tensor.numpy()  # NumPy's types do not say that an array is a buffer before Python 3.12
    return memoryview(array)


class Reader:
    """Reads parts of a file into memory; large ones in threads, which `finish` waits for.

    Example:
        >>> import io
        >>> made, view = memory(5)
        >>> reader = Reader(io.BytesIO(b"0123456789"))
        >>> reader.fill(view, 2, None, "digits")
        >>> reader.finish()
        >>> bytes(made.tolist())
        b'23456'
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.descriptor = descriptor_of(stream)
        self.pool: ThreadPoolExecutor | None = None
        self.running: list[Future[None]] = []

    def fill(self, view: memoryview, offset: int, crc: int | None, name: str) -> None:
        """Fill `view` from `offset` on; large parts are complete only after `finish`.

        Raises:
            EndsTooEarly: the file ends before that.
            WrongChecksum: the CRC-32 is not `crc`.
        """
        if self.descriptor is None or len(view) < _WORTH_A_THREAD:
            self._fill(view, offset, crc, name)
            return
        if self.pool is None:
            self.pool = ThreadPoolExecutor(min(_MOST_THREADS, _processors()), "storages")
        self.running.append(self.pool.submit(self._fill, view, offset, crc, name))

    def finish(self) -> None:
        """Wait for what `fill` began.

        Raises:
            EndsTooEarly, Refused: as `fill`.
        """
        for running in self.running:
            running.result()
        self.close()

    def close(self) -> None:
        """Stop what is still being read; what was read stays."""
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)
        self.pool, self.running = None, []

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on, or fewer at the file's end."""
        if self.descriptor is not None:
            return os.pread(self.descriptor, size, offset)
        self.stream.seek(offset)
        return self.stream.read(size)

    def _fill(self, view: memoryview, offset: int, crc: int | None, name: str) -> None:
        found = done = 0
        chunk = _CHUNK
        with contextlib.ExitStack() as stack:
            checker = None
            if crc is not None and len(view) >= _WORTH_A_CHECKER and _processors() > 1:
                checker = stack.enter_context(ThreadPoolExecutor(1, "checksums"))
                chunk, checked = _WORTH_A_CHECKER, checker.submit(int)
            while done < len(view):
                part = view[done : done + chunk]
                count = self._read_into(part, offset + done)
                if count == 0:
                    raise EndsTooEarly(f"{name}: expected {len(view)} bytes, found {done}")
                if checker is not None:  # the next chunk is read meanwhile
                    checked = checker.submit(zlib.crc32, part[:count], checked.result())
                elif crc is not None:
                    found = zlib.crc32(part[:count], found)
                done += count
            if checker is not None:
                found = checked.result()
        if crc is not None and found != crc:
            raise WrongChecksum(f"{name}: damaged: expected CRC-32 {crc:08x}, found {found:08x}")

    def _read_into(self, part: memoryview, offset: int) -> int:
        if self.descriptor is not None:
            return os.preadv(self.descriptor, [part], offset)
        self.stream.seek(offset)
        into: Callable[[memoryview], int] = self.stream.readinto  # type: ignore[attr-defined]
        return into(part)


def descriptor_of(stream: IO[bytes]) -> int | None:
    """The number of the open file, if the stream is one and the system reads from any position of it.

    The number of another kind of stream (of gzip, say) is that of a file with other bytes in it.
    """
    raw = stream.raw if isinstance(stream, (io.BufferedReader, io.BufferedRandom)) else stream
    return raw.fileno() if isinstance(raw, io.FileIO) and hasattr(os, "preadv") else None


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
