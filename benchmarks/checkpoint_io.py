"""Save, load and verify a checkpoint beside bare torch.save, torch.load and safetensors, cold and warm.

    python benchmarks/checkpoint_io.py [--size-mb 1000] [--repeats 5] [--folder DIR]

Every measurement runs in a process of its own, so that its peak memory is its own: the growth of VmHWM in
/proc/self/status during the call, as a share of the weights. Cold: the file was flushed and dropped from the page cache
before. Warm: it was read just before. Linux only. The table is also written to benchmarks/results/checkpoint_io.json.
"""

import argparse
import hashlib
import json
import logging
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from rich.console import Console
from rich.table import Table

from simplenet.checkpoint import load_model_for_inference, save_for_inference
from simplenet.checkpoint.file import read_checkpoint, write_checkpoint
from simplenet.content_hash import content_hash, tensor_bytes
from simplenet.model import SimpleNet

RESULTS = Path(__file__).parent / "results" / "checkpoint_io.json"
INPUT_SIZE, NUM_CLASSES = 784, 10
PLAIN = ".pth"  # the suffix of a bare state_dict


def network(size_mb: int) -> SimpleNet:
    """A SimpleNet whose float32 weights take `size_mb` million bytes."""
    torch.manual_seed(0)
    return SimpleNet(INPUT_SIZE, max(1, round(size_mb * 1e6 / 4 / (INPUT_SIZE + NUM_CLASSES + 1))), NUM_CLASSES)


def flushed(save: Callable[[Any, Path], None]) -> Callable[[Any, Path], None]:
    """`save`, then a flush to disk, as in the library's own functions."""

    def run(weights: Any, path: Path) -> None:
        save(weights, path)
        with path.open("rb") as file:
            os.fsync(file.fileno())

    return run


def bare_sha256(weights: dict[str, torch.Tensor]) -> None:
    digest = hashlib.sha256()
    for tensor in weights.values():
        digest.update(tensor_bytes(tensor))


def read_through(weights: dict[str, torch.Tensor]) -> None:
    """Use every number, so that a mapped file is read."""
    for tensor in weights.values():
        tensor.sum()


# The first of each group is the reference for the others.
SAVES: dict[str, Callable[[SimpleNet, Path], Any]] = {
    "torch.save, flushed": lambda model, path: flushed(torch.save)(model.state_dict(), path),
    "torch.save, not flushed": lambda model, path: torch.save(model.state_dict(), path),
    "safetensors save_file, flushed": lambda model, path: flushed(safetensors.torch.save_file)(
        model.state_dict(), path
    ),
    "write_checkpoint .pt": lambda model, path: write_checkpoint(model.state_dict(), path.with_suffix(".pt")),
    "write_checkpoint .safetensors": lambda model, path: write_checkpoint(
        {"model_state_dict": model.state_dict()}, path.with_suffix(".safetensors")
    ),
    "save_for_inference .pt": lambda model, path: save_for_inference(model, path.with_suffix(".pt")),
    "save_for_inference .safetensors": lambda model, path: save_for_inference(model, path.with_suffix(".safetensors")),
}
LOADS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "torch.load": (".pt", lambda path: torch.load(path, map_location="cpu", weights_only=True)),
    "torch.load mmap": (".pt", lambda path: torch.load(path, map_location="cpu", weights_only=True, mmap=True)),
    "torch.load mmap, read through": (
        ".pt",
        lambda path: read_through(
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)["model_state_dict"]
        ),
    ),
    "safetensors load_file": (".safetensors", safetensors.torch.load_file),
    "safetensors load_file, read through": (
        ".safetensors",
        lambda path: read_through(safetensors.torch.load_file(path)),
    ),
    "read_checkpoint .pt": (".pt", read_checkpoint),
    "read_checkpoint .pt, mapped": (".pt", lambda path: read_checkpoint(path, mapped=True)),
    "read_checkpoint .safetensors": (".safetensors", read_checkpoint),
    "load_model_for_inference, a state_dict": (PLAIN, load_model_for_inference),
    "load_model_for_inference .pt": (".pt", load_model_for_inference),
    "load_model_for_inference .safetensors": (".safetensors", load_model_for_inference),
}
VERIFIES: dict[str, Callable[[dict[str, torch.Tensor]], Any]] = {
    "hashlib.sha256": bare_sha256,
    "content_hash": content_hash,
}


logging.disable(logging.WARNING)  # what adoption says of each file


def measure(case: str, size_mb: int, path: Path) -> dict[str, float]:
    """Time one case in this process: seconds, and the growth of peak memory in bytes."""
    call = _prepared(case, network(1), path.with_name("tiny.bin"))
    call()  # imports and set-up on first use are not measured
    if case in LOADS:
        suffix, load = LOADS[case]
        call = _kept(lambda: load(path.with_suffix(suffix)))
    else:
        call = _prepared(case, network(size_mb), path.with_name("saved.bin"))
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now the present
    before = _status_bytes("VmHWM")
    start = time.perf_counter()
    call()
    return {"seconds": time.perf_counter() - start, "peak_bytes": _status_bytes("VmHWM") - before}


def _prepared(case: str, model: SimpleNet, path: Path) -> Callable[[], Any]:
    if case in SAVES:
        return lambda: SAVES[case](model, path)
    if case in VERIFIES:
        weights = dict(model.state_dict())
        return lambda: VERIFIES[case](weights)
    suffix, load = LOADS[case]
    own = path.with_suffix(suffix)
    save(model, own)
    return lambda: load(own)


def save(model: SimpleNet, path: Path) -> None:
    """The file of a case: complete, or the bare state_dict that adoption starts from."""
    if path.suffix == PLAIN:
        torch.save(model.state_dict(), path)
    else:
        save_for_inference(model, path)


def _kept(load: Callable[[], Any]) -> Callable[[], Any]:
    """Hold the loaded object until the process ends: freeing it is not part of loading."""
    held: list[Any] = []
    return lambda: held.append(load())


def _status_bytes(key: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def cool(path: Path) -> None:
    """Drop the file from the page cache."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)


def warm(path: Path) -> None:
    """Read the complete file into the page cache."""
    with path.open("rb") as file:
        while file.read(2**24):
            pass


def run_all(size_mb: int, repeats: int, folder: Path) -> list[dict[str, Any]]:
    """Measure every case once per round, each round in its own order, so that other load on the machine hits all."""
    path = folder / "net.bin"
    for suffix in (".pt", ".safetensors", PLAIN):
        save(network(size_mb), path.with_suffix(suffix))
    cases = [("save", case, "") for case in SAVES] + [("verify", case, "") for case in VERIFIES]
    cases += [("load", case, state) for state in ("cold", "warm") for case in LOADS]
    measured: dict[tuple[str, str, str], list[dict[str, float]]] = {case: [] for case in cases}
    for number in range(repeats):
        for kind, case, state in random.Random(number).sample(cases, len(cases)):
            if kind == "load":
                (cool if state == "cold" else warm)(path.with_suffix(LOADS[case][0]))
            measured[kind, case, state].append(_in_a_process(case, size_mb, path))
            for saved in folder.glob("saved.*"):
                saved.unlink()
    return [_row(kind, case, state, runs, size_mb) for (kind, case, state), runs in measured.items()]


def _in_a_process(case: str, size_mb: int, path: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--case", case, "--size-mb", str(size_mb), "--folder", str(path.parent)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout
    measured: dict[str, float] = json.loads(output)
    return measured


def _row(kind: str, case: str, state: str, runs: list[dict[str, float]], size_mb: int) -> dict[str, Any]:
    seconds = statistics.median(run["seconds"] for run in runs)
    peak = statistics.median(run["peak_bytes"] for run in runs)
    best = min(run["seconds"] for run in runs)
    row = {"kind": kind, "case": case, "state": state, "seconds": seconds, "seconds_best": best}
    speeds = {"gb_per_s": size_mb / 1e3 / seconds, "gb_per_s_best": size_mb / 1e3 / best}
    return {**row, **speeds, "peak_share": peak / (size_mb * 1e6), "seconds_all": [run["seconds"] for run in runs]}


def show(rows: list[dict[str, Any]], size_mb: int, repeats: int) -> None:
    title = f"{size_mb} MB of weights, median (best) of {repeats}; torch {torch.__version__}, one thread"
    table = Table("", "", "", "GB/s", "time, of the first's", "peak memory, of the weights", title=title)
    first: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        group = (row["kind"], row["state"])
        if group not in first:
            first[group] = row
            table.add_section()
        row["ratio"] = row["seconds"] / first[group]["seconds"]
        row["ratio_best"] = row["seconds_best"] / first[group]["seconds_best"]
        speed = f"{row['gb_per_s']:.2f} ({row['gb_per_s_best']:.2f})"
        ratio = f"{row['ratio']:.2f} ({row['ratio_best']:.2f})"
        table.add_row(row["kind"], row["state"], row["case"], speed, ratio, f"{row['peak_share']:.2f}")
    Console(width=140).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size-mb", type=int, default=1000, help="million bytes of weights")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; by default that of temporary files")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options.case, options.size_mb, options.folder / "net.bin")))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = run_all(options.size_mb, options.repeats, Path(folder))
    show(rows, options.size_mb, options.repeats)
    about = {"date": date.today().isoformat(), "size_mb": options.size_mb, "repeats": options.repeats}
    about |= {"torch": str(torch.__version__), "machine": f"{os.cpu_count()} cores, {platform.machine()}"}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({**about, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
