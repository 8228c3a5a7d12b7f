"""The report of a mixed soak: JSON, tables in Markdown and on the terminal, a plot."""

import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from benchmarks import envs
from benchmarks.report import Table
from benchmarks.soak.chaos import WORDS
from benchmarks.soak.sampling import JUDGED, trend
from benchmarks.soak.tally import OUTCOMES

HERE = Path(__file__).resolve().parent
GROWTH = "least of each half minute, per minute"
IDLE = ("skipped", "refused")  # how the note of an event begins that had no effect
TRENDS = {
    "frontend_mib": "memory of the frontend, MiB",
    "worker_mib": "memory of all workers, MiB",
    "frontend_fds": "descriptors of the frontend",
    "worker_fds": "descriptors of all workers",
    "frontend_threads": "threads of the frontend",
    "worker_threads": "threads of all workers",
}


def tables(results: Mapping[str, Any]) -> list[Table]:
    """What became of the requests, what went wrong meanwhile, and how the processes fared."""
    outcomes, total = results["outcomes"], max(1, sum(results["outcomes"].values()))
    requests = [[name, f"{outcomes.get(name, 0):,}", f"{outcomes.get(name, 0) / total:.3%}"] for name in OUTCOMES]
    latency = f"{results['rows']:,} rows. p50 {results['p50_ms']} ms, p99 {results['p99_ms']} ms, with all retries."
    met = [[name, f"{number:,}"] for name, number in Counter(results["met"]).most_common()]
    pings = [sample["ping_ms"] for sample in results["samples"]]
    silent = f"/ping was asked {len(pings)} times; {pings.count(None)} times it did not say healthy within a second."
    return [
        Table("Requests by outcome", latency, ["outcome", "requests", "share"], requests),
        Table("Before a retry", "What an attempt met that was then repeated.", ["", "attempts"], met),
        Table("What went wrong", _bursts(results), ["", "times", "refused or skipped", "such as"], _events(results)),
        Table(
            "Processes",
            f"In the last {JUDGED:.0%}. {silent}",
            ["", "median", GROWTH],
            _trends(results),
        ),
    ]


def markdown(results: Mapping[str, Any]) -> str:
    """The report as a page."""
    lines = ["# Soak", "", _head(results), "", *(f"- {line}" for line in results["verdict"]), ""]
    for table in tables(results):
        lines += [f"## {table.title}", "", table.note, "", _row(table.header), _row(["---"] * len(table.header))]
        lines += [*map(_row, table.rows), ""]
    if results["examples"]:
        lines += ["## Lost or wrong", "", *(f"- `{example}`" for example in results["examples"]), ""]
    return "\n".join([*lines, "![outcomes, latency, memory and descriptors over time](soak.png)", ""])


def show(results: Mapping[str, Any], console: Console) -> None:
    """The same on the terminal."""
    console.print(_head(results), markup=False)
    for table in tables(results):
        shown = RichTable(*map(escape, table.header), title=escape(table.title), caption=escape(table.note))
        for row in table.rows:
            shown.add_row(*map(escape, row))
        console.print(shown)
    for line in (*results["examples"], *results["verdict"]):
        console.print(line, markup=False)


def write(results: Mapping[str, Any], output: Path, stem: str) -> None:
    """`stem`.json, .md and .png in the folder `output`."""
    output.mkdir(parents=True, exist_ok=True)
    file = output / f"{stem}.json"
    file.write_bytes(orjson.dumps(results, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS))
    (output / f"{stem}.md").write_text(markdown(results))
    python = envs.ensure("driver", HERE.parent / "requirements.txt", torch=False)
    subprocess.run([python, HERE / "plot.py", file], check=True, timeout=120)


def _head(results: Mapping[str, Any]) -> str:
    machine = results["machine"]
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}; "
        f"{machine['date']}. `{results['command']}`: {results['minutes']:g} minutes, {results['clients']} clients, "
        f"{results['workers']} workers, seed {results['seed']}. Clients and server share the cores. Every answer was "
        "compared with the network's own."
    )


def _bursts(results: Mapping[str, Any]) -> str:
    answers = ", ".join(f"{number:,} {name}" for name, number in Counter(results["bursts"]).most_common())
    return f"Answers in the bursts, not counted above: {answers or 'none'}."


def _events(results: Mapping[str, Any]) -> list[list[str]]:
    idle = [event for event in results["events"] if event["note"].startswith(IDLE)]
    done = Counter(event["name"] for event in results["events"] if event not in idle)
    left, why = Counter(event["name"] for event in idle), {event["name"]: event["note"] for event in idle}
    return [[words, str(done[name]), str(left[name]), why.get(name, "")] for name, words in WORDS.items()]


def _trends(results: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for name, words in TRENDS.items():
        values = trend(results["samples"], name, results["workers"])
        rows.append([words, f"{values['median']:g}", f"{values['per_min']:+.2f}"])
    return rows


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
