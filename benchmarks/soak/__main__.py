"""Soak a server, or show one promise of the README: see scripts/soak --help."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import machine
from benchmarks.soak import mixed, report, verdict
from simplenet.signals import signals_interrupt

RESULTS = Path(__file__).resolve().parent.parent / "results"
console = Console()


def main(
    minutes: Annotated[float, typer.Option(min=0.1, help="Of mixed traffic.")] = 10.0,
    output: Annotated[Path, typer.Option(help="Folder of the report.")] = RESULTS,
    port: Annotated[
        int | None, typer.Option(help="Of the server, with the four after it; by default free ones.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the requests and of what goes wrong.")] = 1,
) -> None:
    """Start a server, send it good and bad requests while everything goes wrong, and check every answer."""
    with signals_interrupt():
        sys.exit(0 if _soak(minutes, output, port, seed) else 1)


def _soak(minutes: float, output: Path, port: int | None, seed: int) -> bool:
    columns = (TextColumn("soak"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=60 * minutes)
        counted = mixed.run(minutes, seed, port, lambda done, what: bar.update(task, completed=done, description=what))
    results: dict[str, Any] = {"machine": machine.describe(), "command": _command(), "seed": seed, **counted}
    lines = verdict.of_soak(results)
    results["verdict"] = list(map(str, lines))
    report.show(results, console)
    report.write(results, output, "soak")
    return verdict.passed(lines)


def _command() -> str:
    return " ".join(["scripts/soak", *sys.argv[1:]])


if __name__ == "__main__":
    try:
        typer.run(main)
    except KeyboardInterrupt:
        console.print("interrupted: the server was stopped, nothing was written")
        sys.exit(130)
