"""Soak a server, or show one promise of the README: see scripts/soak --help."""

import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import machine
from benchmarks.soak import mixed, report, verdict
from benchmarks.soak.promises import PROMISES
from benchmarks.soak.stage import stage
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
    only: Annotated[
        str | None, typer.Option(help=f"Show one promise instead of the mixed soak: {', '.join(PROMISES)}.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="With --only: how often, instead of as promised.")] = None,
) -> None:
    """Start a server, send it good and bad requests while everything goes wrong, and check every answer."""
    if only is not None and only not in PROMISES:
        raise typer.BadParameter(f"expected one of {', '.join(PROMISES)}, found {only!r}", param_hint="--only")
    with signals_interrupt():
        good = _soak(minutes, output, port, seed) if only is None else _show(only, output, port, seed, count)
        sys.exit(0 if good else 1)


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


def _show(name: str, output: Path, port: int | None, seed: int, count: int | None) -> bool:
    """Show one promise; its verdict goes to the terminal and into soak-NAME.json."""
    with _bar(name) as bar:
        task = bar.add_task("", total=1.0)
        with stage(port, count, seed, lambda done, what: bar.update(task, completed=done, description=what)) as ready:
            shown = PROMISES[name](ready)
        bar.update(task, completed=1.0, description="done")
    lines = list(map(str, shown.lines))
    for line in lines:
        console.print(line, markup=False, highlight=False)
    results = {"machine": machine.describe(), "command": _command(), "seed": seed, "verdict": lines, **shown.facts}
    output.mkdir(parents=True, exist_ok=True)
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS
    (output / f"soak-{name}.json").write_bytes(orjson.dumps(results, option=options))
    return verdict.passed(shown.lines)


def _bar(name: str) -> Progress:
    return Progress(
        TextColumn(name), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"), console=console
    )


def _command() -> str:
    return " ".join(["scripts/soak", *sys.argv[1:]])


if __name__ == "__main__":
    typer.run(main)
