"""The project's goals, as ratios within one run, and whether they are met.

SimpleNet Serve counts with the median of its rounds, the peers with the best of their medians.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks import loads

ONE_JSON, ONE_RAW = "json, 1 row, 1 conn", "raw, 1 row, 1 conn"
PNG, LARGE = "png, 64 conn", "raw, 4096 rows"


@dataclass(frozen=True)
class Goal:
    """A value that should be at least (`>=`) or at most (`<=`) `target`; None if it was not measured."""

    title: str
    sign: str
    target: float
    value: "Measure"

    def met(self, value: float) -> bool:
        return value >= self.target if self.sign == ">=" else value <= self.target


class Run:
    """The results as the goals need them."""

    def __init__(self, results: dict[str, Any]) -> None:
        measured = [peer for peer in results["peers"] if peer["status"] == "ok"]
        self.by_name = {peer["name"]: peer for peer in measured}
        self.ours = self.by_name.get("ours", {"loads": {}, "open_loop": []})
        self.others = [peer for peer in measured if not peer["name"].startswith("ours")]
        self.ceilings = results["ceilings"]

    def our(self, load: str, key: str) -> float | None:
        value: float | None = self.ours["loads"].get(load, {}).get(key)
        return value

    def best(self, peers: list[dict[str, Any]], load: str, key: str, pick: Callable[..., float] = max) -> float | None:
        values = [peer["loads"][load][key] for peer in peers if load in peer["loads"]]
        return pick(values) if values else None

    def latency_profile(self) -> float | None:
        return self.best([p for p in self.by_name.values() if p["name"] == "ours-latency"], ONE_JSON, "p50_ms", min)

    def of_torch(self) -> float | None:
        rates = [row["rows_per_s"] for row in self.ceilings["in_process"] if row["rows"] == 4096]
        return _ratio(self.our(LARGE, "rows_per_s"), max(rates))


Measure = Callable[[Run], float | None]


def _times_best_peer(load: str) -> Measure:
    def value(run: Run) -> float | None:
        return _ratio(run.our(load, "requests_per_s"), run.best(run.others, load, "requests_per_s"))

    return value


def _of_frontend(key: str) -> Measure:
    def value(run: Run) -> float | None:
        return _ratio(run.our(loads.JSON_AT_64, "requests_per_s"), run.ceilings["frontend"][key])

    return value


def _lone_request(load: str) -> Measure:
    def value(run: Run) -> float | None:
        batching = [peer for peer in run.others if peer["batches"]]
        return _ratio(run.our(load, "p50_ms"), run.best(batching, load, "p50_ms", min))

    return value


def _tail(kind: str) -> Measure:
    def value(run: Run) -> float | None:
        runs = [r for r in run.ours["open_loop"] if r["kind"] == kind and r["share"] == 0.8 and not r["errors"]]
        return _ratio(runs[0]["p99_ms"], runs[0]["p50_ms"]) if runs else None

    return value


def _of_stock(key: str) -> Measure:
    def value(run: Run) -> float | None:
        return _ratio(run.ours.get(key), run.by_name.get("stock_torchserve", {}).get(key))

    return value


GOALS = (
    Goal("one JSON row, 64 connections: times the best peer", ">=", 3, _times_best_peer(loads.JSON_AT_64)),
    Goal("one JSON row, 64 connections: share of the frontend's 404", ">=", 0.9, _of_frontend("json_404_per_s")),
    Goal("one JSON row, 64 connections: share of its /ping, same body", ">=", 0.9, _of_frontend("json_ping_per_s")),
    Goal("one raw row, 64 connections: times the best peer", ">=", 6, _times_best_peer(loads.RAW_AT_64)),
    Goal("one connection, JSON: p50 over the best peer that batches", "<=", 0.6, _lone_request(ONE_JSON)),
    Goal("one connection, raw: p50 over the best peer that batches", "<=", 0.6, _lone_request(ONE_RAW)),
    Goal("one connection, JSON, profile latency: p50 in ms", "<=", 1.0, Run.latency_profile),
    Goal("4,096 raw rows a request: share of torch alone on all cores", ">=", 0.8, Run.of_torch),
    Goal("PNG, 64 connections: times the best peer", ">=", 3, _times_best_peer(PNG)),
    Goal("open loop at 80 %, JSON: p99 over p50, no errors", "<=", 5, _tail("json")),
    Goal("open loop at 80 %, raw: p99 over p50, no errors", "<=", 5, _tail("raw")),
    Goal("start to first right answer: over stock TorchServe's", "<=", 0.8, _of_stock("start_s")),
    Goal("memory of one more worker: over stock TorchServe's", "<=", 1.0, _of_stock("second_worker_mib")),
)


def table(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows; a goal whose peers were not in the run is marked."""
    run = Run(results)
    rows = []
    for goal in GOALS:
        value = goal.value(run)
        wanted = f"{'≥' if goal.sign == '>=' else '≤'} {goal.target:g}"
        verdict = "not measured" if value is None else "yes" if goal.met(value) else "no"
        rows.append([goal.title, wanted, "" if value is None else f"{value:.2f}", verdict])
    return ["goal", "wanted", "measured", "met"], rows


def _ratio(value: float | None, base: float | None) -> float | None:
    return value / base if value is not None and base else None
