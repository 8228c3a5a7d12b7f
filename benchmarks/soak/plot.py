"""The plot of a soak: outcomes, p99, memory and descriptors over time, with what went wrong marked.

This script runs in its own environment (benchmarks/requirements.txt), so that the project does not need matplotlib.
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {
    "ok": "#4c9f70", "refused as it should be": "#8fb8de", "503, then ok": "#e9c46a",
    "connection broken, then ok": "#f4a261", "LOST": "#d00000", "WRONG": "#6a040f",
}  # fmt: skip
MARKS = {
    "kill": "black", "freeze": "tab:blue", "version": "tab:green", "stall": "tab:red", "drip": "tab:pink",
    "vanish": "lightgrey", "burst": "tab:orange", "large": "tab:brown", "disk": "tab:purple",
}  # fmt: skip


def main(file: Path) -> None:
    results = json.loads(file.read_text())
    figure, sides = plt.subplots(5, 1, figsize=(12, 13), sharex=True, height_ratios=[3, 2, 2, 2, 1])
    _outcomes(sides[0], results["seconds"])
    _latency(sides[1], results["samples"])
    _lines(sides[2], results["samples"], {"frontend_mib": "frontend", "worker_mib": "all workers"}, "memory, MiB")
    _lines(sides[3], results["samples"], {"frontend_fds": "frontend", "worker_fds": "all workers"}, "descriptors")
    _events(sides[4], results["events"])
    sides[4].set_xlabel("seconds")
    for side in sides:
        side.grid(alpha=0.3)
        side.set_xlim(left=0)
    machine = results["machine"]
    figure.suptitle(f"{machine['cpu']}, {machine['cores']} cores, {machine['date']}", fontsize=8, color="grey")
    figure.set_layout_engine("constrained")
    figure.savefig(file.with_suffix(".png"), dpi=110)
    plt.close(figure)


def _outcomes(side: plt.Axes, seconds: dict) -> None:
    times = list(range(max(map(int, seconds), default=0) + 1))
    counts = [[seconds.get(str(second), {}).get(name, 0) for second in times] for name in COLOURS]
    side.stackplot(times, counts, labels=list(COLOURS), colors=list(COLOURS.values()), step="post")
    for name in ("LOST", "WRONG"):  # too few to be seen in a stack
        at = [second for second in times if seconds.get(str(second), {}).get(name)]
        side.plot(at, [15] * len(at), "v", color=COLOURS[name], zorder=5)
    side.set_ylabel("requests/s")
    side.legend(fontsize=7, ncols=3, loc="upper right")


def _latency(side: plt.Axes, samples: list[dict]) -> None:
    for name, style in {"p99_ms": "-", "p50_ms": ":", "ping_ms": "--"}.items():
        points = [(sample["at_s"], sample[name]) for sample in samples if sample[name]]
        side.plot(*zip(*points, strict=True) if points else ([], []), ls=style, lw=1, label=name.partition("_")[0])
    silent = [sample["at_s"] for sample in samples if sample["ping_ms"] is None]
    side.plot(silent, [1000] * len(silent), "x", color="tab:red", label="/ping not healthy in 1 s")
    side.set(yscale="log", ylabel="ms, with retries")
    side.legend(fontsize=7, ncols=4, loc="upper right")


def _lines(side: plt.Axes, samples: list[dict], names: dict[str, str], label: str) -> None:
    for name, words in names.items():
        side.plot([sample["at_s"] for sample in samples], [sample[name] for sample in samples], lw=1.2, label=words)
    side.set(ylabel=label, ylim=(0, None))
    side.legend(fontsize=7, loc="upper right")


def _events(side: plt.Axes, events: list[dict]) -> None:
    done = [event for event in events if not event["note"].startswith(("skipped", "refused"))]
    for number, (name, colour) in enumerate(MARKS.items()):
        at = [event["at_s"] for event in done if event["name"] == name]
        side.plot(at, [number] * len(at), "|", ms=9, mew=1.5, color=colour)
    side.set_yticks(range(len(MARKS)), list(MARKS), fontsize=7)
    side.set_ylim(-0.6, len(MARKS) - 0.4)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
