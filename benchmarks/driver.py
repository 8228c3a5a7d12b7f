"""Measure SimpleNet Serve and its peers in one run, and write the report: see scripts/bench --help."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import orjson
import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks import ceilings, closed_loop, envs, machine, report, turns, warm_up
from benchmarks.registry import OURS, OURS_LATENCY, Peer, chosen
from benchmarks.server import Advance, Plan
from benchmarks.session import Reference
from simplenet import load_model_for_inference

HERE = Path(__file__).resolve().parent
CEILING_STEPS = 8 + turns.WARM_UP_STEPS
console = Console()


def main(
    peers: Annotated[str, typer.Option(help="Names separated by commas, all, or '' for SimpleNet alone.")] = "all",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds over all servers; medians are reported.")] = 3,
    seconds: Annotated[int, typer.Option(min=1, help="Of each measurement.")] = 2,
    quick: Annotated[bool, typer.Option("--quick", help="Two minutes: SimpleNet alone, one short round.")] = False,
    output: Annotated[Path, typer.Option(help="Folder of the report.")] = HERE / "results",
) -> None:
    """Start each server, check its responses, load it, and write JSON, a table and plots."""
    if quick:
        peers, rounds, seconds = "", 1, 1
    plan = Plan(rounds, seconds, warm_up.SHORT if quick else warm_up.FULL)
    order = (OURS, OURS_LATENCY, *chosen(peers))
    wrk = closed_loop.version()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    started = time.monotonic()
    results: dict[str, Any] = {
        "machine": {**machine.describe(), "wrk": wrk},
        "settings": {
            "rounds": rounds,
            "seconds": seconds,
            "warm_up_s": plan.warm_up.total_s,
            "command": " ".join(["scripts/bench", *sys.argv[1:]]),
        },
    }
    envs.ENVS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        _run(order, plan, Path(name), results)
    results["settings"]["minutes"] = round((time.monotonic() - started) / 60, 1)
    stem = "quick" if quick else "serving"
    _write(results, output, stem)


def _run(order: tuple[Peer, ...], plan: Plan, work: Path, results: dict[str, Any]) -> None:
    reference = _prepare(work)
    with _progress(CEILING_STEPS + sum(turns.steps(peer, plan.rounds) for peer in order)) as bar:
        results["ceilings"] = _ceilings(work, plan, bar.stage("ceilings", CEILING_STEPS))
        results["peers"] = turns.measure(order, plan, reference, work, bar.stage)
        bar.finish()


def _prepare(work: Path) -> Reference:
    """Train a checkpoint, export its weights for the peers, and return the library's predictions as the reference."""
    checkpoint = work / "simplenet.pt"
    simplenet = Path(sys.executable).parent / "simplenet"
    subprocess.run([simplenet, "train", "--epochs", "1", "--output", checkpoint], check=True, capture_output=True)
    model = load_model_for_inference(checkpoint)
    torch.save(model.state_dict(), work / "weights.pt")

    @torch.inference_mode()
    def reference(rows: np.ndarray) -> np.ndarray:
        return torch.softmax(model(torch.from_numpy(rows)), dim=1).numpy()

    return reference


def _ceilings(work: Path, plan: Plan, advance: Advance) -> dict[str, Any]:
    in_process = []
    for threads in sorted({1, os.cpu_count() or 1}):
        advance(f"in process, {threads} threads")
        in_process += ceilings.in_process(work, threads, plan.seconds / 2)
    return {"in_process": in_process, "frontend": ceilings.frontend(work, plan, advance)}


class Bar:
    """One bar for the complete run; a stage that ends early is filled up when the next begins."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.task = progress, progress.add_task("", total=total)
        self.end = 0

    def stage(self, name: str, steps: int) -> Advance:
        self.progress.update(self.task, completed=self.end, description=name)
        self.end += steps
        return lambda step: self.progress.update(self.task, advance=1, description=f"{name}: {step}")

    def finish(self) -> None:
        self.progress.update(self.task, completed=self.end, description="done")


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Bar]:
    columns = (BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as progress:
        yield Bar(progress, total)


def _write(results: dict[str, Any], output: Path, stem: str) -> None:
    output.mkdir(parents=True, exist_ok=True)
    file = output / f"{stem}.json"
    file.write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    (output / f"{stem}.md").write_text(report.markdown(results))
    report.show(results, console)
    python = envs.ensure("driver", HERE / "requirements.txt", torch=False)
    subprocess.run([python, HERE / "plots.py", file], check=True, timeout=120)
    console.print(f"wrote {stem}.json, {stem}.md and plots to {output}", markup=False)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    typer.run(main)
