"""Plots of a results file: throughput and p99 over connections, rows/s over batch size against the ceilings.

A point is the median of the rounds; its bar reaches from the smallest to the largest.

This script runs in its own environment (benchmarks/requirements.txt), so that the project does not need matplotlib.
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

CONNECTIONS = (1, 8, 64, 256)
BATCHES = {1: "raw, 1 row, 64 conn", 64: "raw, 64 rows", 1024: "raw, 1024 rows", 4096: "raw, 4096 rows"}

OURS_LINES = {"ours": "-", "ours-latency": ":", "ours-wire-stock": "--"}  # other variants of SimpleNet Serve: "-."


def main(file: Path) -> None:
    results = json.loads(file.read_text())
    peers = [peer for peer in results["peers"] if peer["status"] == "ok"]
    machine = results["machine"]
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['date']}"
    over_connections(peers, "requests_per_s", "requests/s", where, file.with_name(f"{file.stem}-throughput.png"))
    over_connections(peers, "p99_ms", "p99, ms", where, file.with_name(f"{file.stem}-p99.png"))
    over_batch_size(peers, results["ceilings"], where, file.with_name(f"{file.stem}-rows.png"))


def over_connections(peers: list[dict], key: str, label: str, where: str, target: Path) -> None:
    figure, sides = plt.subplots(1, 2, figsize=(12, 5), sharey=True)
    for side, kind in zip(sides, ("json", "raw"), strict=True):
        for number, peer in enumerate(peers):
            _draw(side, peer, number, {count: f"{kind}, 1 row, {count} conn" for count in CONNECTIONS}, key)
        side.set(xscale="log", yscale="log", xlabel="connections", title=f"one row a request, {kind}")
        side.set_xticks(CONNECTIONS, [str(count) for count in CONNECTIONS])
        side.minorticks_off()
        side.grid(alpha=0.3)
    sides[0].set_ylabel(label)
    _save(figure, sides[0], where, target)


def over_batch_size(peers: list[dict], ceilings: dict, where: str, target: Path) -> None:
    figure, side = plt.subplots(figsize=(8, 5))
    for number, peer in enumerate(peers):
        _draw(side, peer, number, BATCHES, "rows_per_s")
    for threads in sorted({row["threads"] for row in ceilings["in_process"]}):
        rows = [row for row in ceilings["in_process"] if row["threads"] == threads]
        points = [row["rows"] for row in rows], [row["rows_per_s"] for row in rows]
        side.plot(*points, color="grey", ls="--" if threads == 1 else ":", label=f"torch alone, {threads} thread(s)")
    side.axhline(ceilings["frontend"]["raw_ping_per_s"], color="grey", lw=0.8, label="our frontend, 1 row, /ping")
    side.set(xscale="log", yscale="log", xlabel="rows a request", ylabel="rows/s", title="raw float32 rows")
    side.set_xticks(list(BATCHES), [str(count) for count in BATCHES])
    side.minorticks_off()
    side.grid(alpha=0.3)
    _save(figure, side, where, target)


def _draw(side: plt.Axes, peer: dict, number: int, names: dict[int, str], key: str) -> None:
    """A line over the loads that the peer has; `names` maps places on the axis to loads."""
    measured = {at: peer["loads"][name] for at, name in names.items() if name in peer["loads"]}
    if not measured:
        return
    values = [load[key] for load in measured.values()]
    runs = [[run[key] for run in load["runs"]] for load in measured.values()]
    below = [value - min(each) for value, each in zip(values, runs, strict=True)]
    above = [max(each) - value for value, each in zip(values, runs, strict=True)]
    side.errorbar(list(measured), values, yerr=[below, above], capsize=2, elinewidth=0.8, **_style(peer, number))


def _style(peer: dict, number: int) -> dict:
    """SimpleNet Serve in black, its default variant solid; every other server in its own colour."""
    name = peer["name"]
    if name.startswith("ours"):
        return {"marker": "o", "label": peer["label"], "color": "black", "lw": 2.5, "ls": OURS_LINES.get(name, "-.")}
    return {"marker": "o", "label": peer["label"], "color": f"C{number % 10}", "lw": 1.2}


def _save(figure: plt.Figure, side: plt.Axes, where: str, target: Path) -> None:
    handles, labels = side.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8)
    figure.supxlabel(where, x=0.01, ha="left", fontsize=7, color="grey")
    figure.set_layout_engine("constrained")
    figure.savefig(target, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
