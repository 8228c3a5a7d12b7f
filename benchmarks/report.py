"""The report: the same tables on the terminal and in Markdown."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from benchmarks import goals, loads

NOT_OFFERED = "not offered"
DASH = "\N{EN DASH}"
SPREAD = f"Median (smallest{DASH}largest of the rounds)."
ONE_ROW = [load.name for load in loads.LOADS if load.kind in ("json", "raw") and load.rows == 1]
MANY_ROWS = [load.name for load in loads.LOADS if load.rows > 1]
AT_64 = (loads.JSON_AT_64, loads.RAW_AT_64)
LONE = (goals.ONE_JSON, goals.ONE_RAW)
OTHER = [load.name for load in loads.LOADS if load.kind in ("png", "mixed")]


@dataclass(frozen=True)
class Table:
    """A title, a note on how to read it, the header and the rows."""

    title: str
    note: str
    header: list[str]
    rows: list[list[str]]


def tables(results: dict[str, Any]) -> list[Table]:
    """All measurements."""
    peers = [peer for peer in results["peers"] if peer["status"] == "ok"]
    measured = [
        _main(peers),
        Table("Goals", f"Ours: its median; a peer: the best median of all.{_drift(peers)}", *goals.table(results)),
        _loads(peers, "Requests/s", "One row a request.", ONE_ROW, lambda load: _number(load["requests_per_s"])),
        _loads(peers, "Latency", "p50 / p99 in ms, closed loop.", ONE_ROW, _latency),
        _loads(peers, "Rows/s", f"Many rows a request. {SPREAD}", MANY_ROWS, _spread("rows_per_s")),
        _loads(
            peers, "Images and mixed traffic", f"Requests/s; mixed: JSON, raw, PNG, raw in turn. {SPREAD}", OTHER,
            _spread("requests_per_s"),
        ),
        _open_loop(peers),
        _resources(peers),
        _ceilings(results["ceilings"]),
    ]  # fmt: skip
    failed = [[peer["label"], peer["reason"]] for peer in results["peers"] if peer["status"] != "ok"]
    if failed:
        measured.append(
            Table("Not measured", "Could not be installed, started, or did not answer right.", ["", "reason"], failed)
        )
    return measured


def markdown(results: dict[str, Any]) -> str:
    parts = ["# Serving benchmark", "", _summary(results), ""]
    for table in tables(results):
        parts += [f"## {table.title}", "", table.note, "", _line(table.header), _line(["---"] * len(table.header))]
        parts += [*map(_line, table.rows), ""]
    return "\n".join(parts)


def show(results: dict[str, Any], console: Console) -> None:
    console.print(_summary(results), markup=False)
    for table in tables(results):
        shown = RichTable(*map(escape, table.header), title=escape(table.title), caption=escape(table.note))
        for row in table.rows:
            shown.add_row(*map(escape, row))
        console.print(shown)


def _summary(results: dict[str, Any]) -> str:
    machine, settings = results["machine"], results["settings"]
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}; "
        f"Python {machine['python']}, torch {machine['torch']}, {machine['wrk']}; {machine['date']}. "
        f"Medians of {settings['rounds']} rounds in which the servers took turns, {settings['seconds']} s each time, "
        f"`{settings['command']}`, {settings['minutes']} minutes. Clients and servers share the cores. Every server "
        "runs one worker; the peers' network runs on one thread, ours as it comes. Answers were checked against the "
        f"library's first. Each server was loaded until its rate was level, for {settings['warm_up_s']} s at most."
    )


def _drift(peers: list[dict[str, Any]]) -> str:
    """The drift of the machine: SimpleNet Serve's throughput in the last round over that in the first."""
    ours = next((peer["loads"] for peer in peers if peer["name"] == "ours"), None)
    if ours is None or len(ours[loads.JSON_AT_64]["runs"]) == 1:
        return ""
    rates = [[run["requests_per_s"] for run in ours[name]["runs"]] for name in AT_64]
    json, raw = (f"{rate[-1] / rate[0]:.2f}" if rate[0] else "" for rate in rates)
    return f" Ours, last round over first, 64 connections: {json} (JSON), {raw} (raw)."


def _main(peers: list[dict[str, Any]]) -> Table:
    """The four figures that are quoted, with their spread."""
    columns = [(name, _spread("requests_per_s"), "requests/s") for name in AT_64]
    columns += [(name, _spread("p50_ms"), "p50 ms") for name in LONE]
    rows = [[_label(peer), *(_cell(peer, name, cell) for name, cell, _ in columns)] for peer in peers]
    note = f"One row a request; p50: the median latency of a lone request. {SPREAD}"
    return Table("Main figures", note, ["", *(f"{name}: {unit}" for name, _, unit in columns)], rows)


def _spread(key: str) -> Callable[[dict[str, Any]], str]:
    """The median of the rounds, with the smallest and the largest in brackets."""

    def cell(load: dict[str, Any]) -> str:
        values = [run[key] for run in load["runs"]]
        bounds = f" ({_number(min(values))}{DASH}{_number(max(values))})" if len(values) > 1 else ""
        return _number(load[key]) + bounds

    return cell


def _loads(peers: list[dict[str, Any]], title: str, note: str, names: list[str], cell: Any) -> Table:
    rows = []
    for peer in peers:
        cells = [_cell(peer, name, cell) for name in names]
        if any(cells):
            rows.append([_label(peer), *cells])
    return Table(title, note, ["", *names], rows)


def _cell(peer: dict[str, Any], name: str, cell: Any) -> str:
    if name in peer["not_offered"]:
        return NOT_OFFERED
    load = peer["loads"].get(name)
    if load is None:
        return ""
    return cell(load) + (f" ({load['errors']} errors)" if load["errors"] else "")


def _latency(load: dict[str, Any]) -> str:
    return f"{_number(load['p50_ms'])} / {_number(load['p99_ms'])}"


def _open_loop(peers: list[dict[str, Any]]) -> Table:
    shares = sorted({run["share"] for peer in peers for run in peer["open_loop"]})
    columns = [(kind, share) for kind in ("json", "raw") for share in shares]
    rows = []
    for peer in peers:
        runs = {(run["kind"], run["share"]): run for run in peer["open_loop"]}
        cells = [_open_cell(runs.get(column)) for column in columns]
        if any(cells):
            rows.append([_label(peer), *cells])
    note = (
        "p50 / p99 in ms from the intended start, at a fixed rate (in brackets, requests/s): a share of each server's "
        "own throughput with 64 connections."
    )
    return Table("Open loop", note, ["", *(f"{kind}, {share:.0%}" for kind, share in columns)], rows)


def _open_cell(run: dict[str, Any] | None) -> str:
    if run is None:
        return ""
    errors = f", {run['errors']} errors" if run["errors"] else ""
    return f"{_latency(run)} ({_number(run['rate_per_s'])}{errors})"


def _resources(peers: list[dict[str, Any]]) -> Table:
    rows = []
    for peer in peers:
        memory = peer["memory_after_load"]
        each = ", ".join(f"{row['role']} {row['pss']:.0f} / {row['uss']:.0f}" for row in memory[:4])
        more = f" and {len(memory) - 4} more" if len(memory) > 4 else ""
        second = peer.get("second_worker_mib")
        cpu = [
            _number(peer["loads"].get(name, {}).get("cpu_s_per_1000")) for name in (loads.JSON_AT_64, loads.RAW_AT_64)
        ]
        total = sum(row["pss"] for row in memory)
        shared = "+" if peer["shares_memory"] else ""
        start = [_number(peer["start_s"]), _warm_up(peer["warm_up"])]
        rows.append([_label(peer), *start, *cpu, f"{total:.0f}{shared}", each + more, _number(second)])
    header = [
        "",
        "start s",
        "warm-up s",
        "CPU s / 1,000 json",
        "CPU s / 1,000 raw",
        "MiB",
        "largest processes",
        "one more worker MiB",
    ]
    note = (
        "Start: from the command to the first right answer. Warm-up: until the rates of JSON and raw with 64 "
        "connections were level. CPU: of all the server's processes, 64 connections. Memory after the load: PSS of all "
        "processes, then PSS / USS of the largest; +: it shared pages with another server of the run, and takes more "
        "alone. mosec runs a worker for each kind of body, so three. One more worker: what it adds to the PSS."
    )
    return Table("Start, warm-up, CPU, memory", note, header, rows)


def _warm_up(outcome: dict[str, Any]) -> str:
    return f"{outcome['seconds']:.0f}" + ("" if outcome["level"] else ", not level")


def _ceilings(ceilings: dict[str, Any]) -> Table:
    rows = [
        [f"torch alone, {row['rows']} rows a call, {row['threads']} thread(s)", _number(row["rows_per_s"]), "rows/s"]
        for row in ceilings["in_process"]
    ]
    front = ceilings["frontend"]
    for text, key in (
        ("JSON to a model that does not exist", "json_404_per_s"),
        ("raw to a model that does not exist", "raw_404_per_s"),
        ("GET /ping with the body of the JSON request", "json_ping_per_s"),
        ("GET /ping with the body of the raw request", "raw_ping_per_s"),
        ("GET /ping, no body", "ping_per_s"),
    ):
        rows.append([f"our frontend, {text}", _number(front[key]), "requests/s"])
    return Table("Ceilings", "What no server on these cores can exceed.", ["", "", ""], rows)


def _label(peer: dict[str, Any]) -> str:
    version = peer["version"].split()[-1] if peer["version"] else ""
    return f"{peer['label']} {version}".strip()


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
