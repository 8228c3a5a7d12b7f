"""Damaged files, thousands of them, through a reader in one subprocess; `scripts/fuzz` runs it.

Each is a small valid checkpoint that was changed at random, or whose pickle was changed inside a zip that is valid
again. A reader may read it or refuse it with a SimpleNetError; a traceback, a hang or too much memory is a failure.
"""

import argparse
import contextlib
import importlib
import io
import json
import math
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

READER = "mutations:through_the_doors"  # takes a path
SEED = 20240607
COUNT = 50_000
MEMORY = 4 << 30  # bytes above what the process takes before it reads
TIME_S = 60  # for one file; far beyond what a slow machine needs
REPORT_EVERY = 100
LONGEST = 2000  # characters of a message
_PAGE = resource.getpagesize()


@dataclass
class Result:
    """What became of the files: how many by outcome, the peak memory in bytes, and what failed."""

    outcomes: Counter[str] = field(default_factory=Counter)
    peak: int = 0
    failures: list[str] = field(default_factory=list)


def read_directly(path: Path) -> Any:
    """The reader of any pickle, by itself: no check of what the file is for."""
    import torch

    from simplenet.checkpoint.reading import read_pickle, read_torch_zip

    with path.open("rb") as stream:
        if stream.read(4) == b"PK\x03\x04":
            return read_torch_zip(stream, torch.device("cpu"), path.name, path if path.stat().st_size % 2 else None)
        return read_pickle(stream, torch.device("cpu"), path.name)


def through_the_doors(path: Path) -> Any:
    """Everything that a user may do with a file: describe it, adopt it, compare it."""
    from simplenet.checkpoint.diff import diff
    from simplenet.checkpoint.load import load_any
    from simplenet.inspection import describe

    description = describe(path)
    json.dumps(description.to_dict(), default=str)
    diff(path, path)
    return load_any(path).notes


def seeds() -> list[bytes]:
    """Small valid files of every form."""
    import numpy as np
    import torch

    from simplenet.checkpoint.file import write_checkpoint

    shapes = {"fc1.weight": (2, 3), "fc1.bias": (2,), "fc2.weight": (2, 2), "fc2.bias": (2,)}
    weights = {name: torch.linspace(0, 1, math.prod(shape)).reshape(shape) for name, shape in shapes.items()}
    checkpoint = {
        "model_state_dict": weights | {"fc2.bias": torch.ones(2, dtype=torch.bfloat16)},
        "model_config": {"input_size": 3}, "epoch": 7, "text": "ünï", "b": b"\0", "classes": {0: "cat", 1: "dog"},
        "metadata": {"accuracy": 0.5, "sizes": [1, 2]},
    }  # fmt: skip
    everything = checkpoint | {
        "sparse": torch.sparse_coo_tensor([[0, 2]], [1.0, 2.0], (3,), check_invariants=True),
        "array": np.arange(4.0),
        "options": argparse.Namespace(lr=0.1, sizes=[1, 2], nested={"a": (1, 2.5, None)}),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "network": torch.nn.Linear(2, 1),
    }
    files = []
    for value in (checkpoint, everything):
        for arguments in ({}, {"pickle_protocol": 4}, {"_use_new_zipfile_serialization": False}):
            buffer = io.BytesIO()
            torch.save(value, buffer, **arguments)
            files.append(buffer.getvalue())
        files.extend(pickle.dumps(value, protocol) for protocol in (0, 2, 4, 5))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed.safetensors"
        write_checkpoint({key: checkpoint[key] for key in ("model_state_dict", "model_config")}, path)
        files.append(path.read_bytes())
    return files


def mutated(number: int, files: list[bytes], seed: int = SEED) -> bytes:
    """File `number` of a run with this seed, always the same."""
    chance = random.Random(f"{seed}-{number}")
    data = chance.choice(files)
    if data[:2] == b"PK" and chance.random() < 0.7:
        return _with_pickle(data, lambda inner: _damaged(inner, files, chance))
    return _damaged(data, files, chance)


def _with_pickle(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The zip with another data.pkl, its checksums right."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            new.writestr(entry.filename, change(content) if entry.filename.endswith("data.pkl") else content)
    return buffer.getvalue()


def _damaged(data: bytes, files: list[bytes], chance: random.Random) -> bytes:
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice((1, 1, 2, 4, 8, 32)))
        match chance.randrange(8):
            case 0:
                data = data[:at]
            case 1 | 2:
                flipped = bytes(byte ^ (1 << chance.randrange(8)) for byte in data[at:end])
                data = data[:at] + flipped + data[end:]
            case 3:
                data = data[:at] + chance.randbytes(end - at) + data[at:]
            case 4:
                data = data[:at] + data[end:]
            case 5:
                other = chance.choice(files)
                start = chance.randrange(len(other))
                data = data[:at] + other[start : start + chance.choice((4, 16, 64))] + data[end:]
            case 6:
                data = data[:at] + bytes([chance.choice(b"\x00\xff\x7f.(RbQ20huset)\x81\x93")]) + data[at + 1 :]
            case 7:
                data = data[:end] + data[at:end] * chance.choice((1, 2, 50)) + data[end:]
    return data


class TookTooLong(BaseException):
    """One file took longer than `TIME_S`."""


def _alarm(number: int, frame: FrameType | None) -> None:
    raise TookTooLong(f"took longer than {TIME_S} s")


def sound_alarm() -> None:
    """From now on `signal.alarm` raises TookTooLong."""
    signal.signal(signal.SIGALRM, _alarm)


def baseline_bytes() -> int:
    """The address space of this process now."""
    sizes = Path("/proc/self/statm")
    return int(sizes.read_text().split()[0]) * _PAGE if sizes.exists() else 0


def peak_bytes() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _ran_out_of_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def work(reader: str, start: int, count: int, seed: int, folder: Path) -> None:
    """In the subprocess: read the files and report on stdout, one line of JSON for each hundred."""
    from simplenet.errors import SimpleNetError

    files = seeds()
    module, name = reader.split(":")
    read = getattr(importlib.import_module(module), name)
    for data in files:
        (folder / "file").write_bytes(data)
        with contextlib.suppress(SimpleNetError):
            read(folder / "file")
    resource.setrlimit(resource.RLIMIT_AS, (baseline_bytes() + MEMORY, resource.RLIM_INFINITY))
    sound_alarm()
    outcomes: Counter[str] = Counter()
    path = folder / "file"
    for number in range(start, start + count):
        path.unlink(missing_ok=True)  # some file systems wait for the disk when a file is overwritten
        path.write_bytes(mutated(number, files, seed))
        outcome, failure = attempt(read, path)
        outcomes[outcome] += 1
        if failure is not None:
            kept = Path(tempfile.gettempdir()) / f"simplenet-fuzz-{number}"
            failure = f"{shutil.copy(path, kept)}: {failure}"
        if failure is not None or (number - start) % REPORT_EVERY == REPORT_EVERY - 1 or number == start + count - 1:
            line = {"number": number, "outcomes": outcomes, "peak": peak_bytes(), "failure": failure}
            print(json.dumps(line), flush=True)


def attempt(read: Callable[[Path], Any], path: Path) -> tuple[str, str | None]:
    """What became of one file, and what is wrong with that, if anything."""
    from simplenet.errors import SimpleNetError

    signal.alarm(TIME_S)
    try:
        read(path)
    except SimpleNetError as error:
        outcome = f"refused: {type(error).__name__}"
        if _ran_out_of_memory(error):
            return outcome, f"too much memory: {error!r}"
        if "\n" in str(error) or len(str(error)) > LONGEST:
            return outcome, f"a message that is long or has lines: {error!r}"
        return outcome, None
    except BaseException:  # whatever it is, it should have been one line
        return "a traceback", traceback.format_exc()
    finally:
        signal.alarm(0)
    return "read", None


def run(count: int, reader: str = READER, start: int = 0, seed: int = SEED) -> Iterator[tuple[int, Result]]:
    """Read `count` files; after every hundred, how many were read and what became of them."""
    with tempfile.TemporaryDirectory() as folder:
        yield from run_command(command_of(count, reader, start, seed, folder), count, start)


def command_of(count: int, reader: str, start: int, seed: int, folder: str) -> list[str]:
    """The subprocess that reads the files."""
    command = [sys.executable, "-W", "ignore", __file__, "--work", folder, "--count", str(count)]
    return [*command, "--reader", reader, "--start", str(start), "--seed", str(seed)]


def run_command(command: list[str], count: int, start: int = 0) -> Iterator[tuple[int, Result]]:
    """Run a subprocess that reports one line of JSON for each hundred of `count`; what became of them so far."""
    result = Result()
    done = start
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                report = json.loads(line)
                result.outcomes, result.peak = Counter(report["outcomes"]), report["peak"]
                done = report["number"] + 1
                if report["failure"]:
                    result.failures.append(f"number {report['number']}: {report['failure']}")
                yield done - start, result
        errors.seek(0)
        if process.returncode != 0 or done != start + count:
            output = errors.read().decode(errors="replace")[-2000:]
            result.failures.append(f"the reader ended with {process.returncode} after file {done - 1}: {output}")
            yield done - start, result


def show_run(title: str, command: list[str], count: int, start: int) -> int:
    """Run a subprocess as `run_command` does, and show it as `show_all` does."""
    return show_all(title, run_command(command, count, start), count)


def show_all(title: str, results: Iterator[tuple[int, Result]], count: int) -> int:
    """Show a progress bar, print what became of everything, and give the exit code."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    result = Result()
    with Progress(console=console) as progress:
        task = progress.add_task(title, total=count)
        for done, newest in results:
            progress.update(task, completed=done)
            result = newest
    for outcome, number in result.outcomes.most_common():
        print(f"{number:8d}  {outcome}")
    print(f"{result.peak / 1e6:8.0f}  MB of memory at most")
    for failure in result.failures[:20]:
        print(f"\n{failure[:LONGEST]}")
    if result.failures:
        print(f"\n{len(result.failures)} failures; the files are kept")
    return 1 if result.failures else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=COUNT, help="how many files")
    parser.add_argument("--reader", default=READER, help="module:function that takes a path")
    parser.add_argument("--start", type=int, default=0, help="the number of the first file")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.reader, options.start, options.count, options.seed, options.work)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        command = command_of(options.count, options.reader, options.start, options.seed, folder)
        return show_run(f"fuzz {options.reader}", command, options.count, options.start)


if __name__ == "__main__":
    sys.exit(main())
