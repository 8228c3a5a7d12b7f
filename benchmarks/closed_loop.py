"""Closed loop: wrk keeps every connection busy and sends the next request after each response."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.loads import Body

LUA = Path(__file__).resolve().parent / "lua"
INSTALL = "wrk is not installed (Debian, Ubuntu: apt install wrk; others: your package manager)"


def send(
    url: str, bodies: list[Body], folder: Path, connections: int, seconds: int, method: str = "POST"
) -> dict[str, Any]:
    """Send the bodies in turn for `seconds` (wrk accepts only whole seconds)."""
    files = [folder / f"body-{number}" for number in range(len(bodies))]
    for file, body in zip(files, bodies, strict=True):
        file.write_bytes(body.content)
    if len(bodies) == 1:
        return _wrk(url, "one.lua", [method, str(files[0]), *_flat(bodies[0].headers)], connections, seconds)
    arguments = [method]
    for file, body in zip(files, bodies, strict=True):
        arguments += [str(file), str(len(body.headers)), *_flat(body.headers)]
    return _wrk(url, "mixed.lua", arguments, connections, seconds)


def get(url: str, connections: int, seconds: int) -> dict[str, Any]:
    return _wrk(url, "get.lua", [], connections, seconds)


def version() -> str:
    """The version that wrk prints.

    Raises:
        SystemExit: wrk is not installed.
    """
    if shutil.which("wrk") is None:
        raise SystemExit(f"bench: {INSTALL}")
    process = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False)
    return " ".join(process.stdout.split()[:2])


def _wrk(url: str, script: str, arguments: list[str], connections: int, seconds: int) -> dict[str, Any]:
    """Run wrk with one thread: a second one would compete with the server for the cores."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(LUA / script), url]
    process = subprocess.run(
        [*command, "--", *arguments], capture_output=True, text=True, check=False, timeout=seconds + 30
    )
    line = next((line for line in process.stdout.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise RuntimeError(f"wrk: {(process.stderr or process.stdout).strip()[-300:]}")
    return _result(json.loads(line.removeprefix("RESULT ")))


def _result(raw: dict[str, int]) -> dict[str, Any]:
    """Rates of successful responses; `errors` counts everything else."""
    errors = sum(raw[name] for name in ("status", "connect", "read", "write", "timeout"))
    good = raw["requests"] - raw["status"]
    return {
        "requests": good,
        "answered_per_s": raw["requests"] / (raw["duration_us"] / 1e6),
        "requests_per_s": good / (raw["duration_us"] / 1e6),
        "errors": errors,
        **{f"{name}_ms": raw[f"{name}_us"] / 1000 for name in ("p50", "p90", "p99", "max")},
    }


def _flat(headers: dict[str, str]) -> list[str]:
    return [part for pair in headers.items() for part in pair]
