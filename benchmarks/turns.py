"""The servers take turns: every round visits each of them, so that a drift of the machine affects all alike."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import loads
from benchmarks.registry import Peer
from benchmarks.server import OPEN_SHARES, Advance, Plan, Server
from benchmarks.session import Reference

Stage = Callable[[str, int], Advance]  # the name of a part of the run and its number of steps
START_STEPS, WARM_UP_STEPS = 3, 14


def measure(peers: Sequence[Peer], plan: Plan, reference: Reference, work: Path, stage: Stage) -> list[dict[str, Any]]:
    """Start every server, measure all in rounds, stop them; return their reports in the order of `peers`."""
    servers = [Server(peer, plan, reference, work) for peer in peers]
    with contextlib.ExitStack() as ending:
        for server in servers:
            ending.callback(server.close)
        for server in servers:
            server.attempt(server.start, stage(server.peer.name, _start_steps(server.peer)))
        for number in range(plan.rounds):
            for server in order(servers, number, plan.rounds):
                title = f"round {number + 1}, {server.peer.name}"
                server.attempt(server.closed_round, stage(title, len(server.offered)))
        for number in range(plan.rounds):
            for server in order(servers, number, plan.rounds):
                title = f"round {number + 1}, {server.peer.name}"
                server.attempt(server.open_round, stage(title, _open_steps(server.peer)))
        # From the last to the first: when SimpleNet Serve is measured, no other server maps the same libraries.
        for index, server in reversed(list(enumerate(servers))):
            server.attempt(functools.partial(server.finish, servers[:index]), stage(server.peer.name, 1))
    return [server.report for server in servers]


def order(servers: Sequence[Server], number: int, rounds: int) -> list[Server]:
    """The order of round `number`: rotated, so that over all rounds each server is early, late and in between."""
    first = number * len(servers) // rounds
    return [*servers[first:], *servers[:first]]


def steps(peer: Peer, rounds: int) -> int:
    """The steps of the bar for one server."""
    return _start_steps(peer) + rounds * (len(peer.offered()) + _open_steps(peer)) + 1


def _start_steps(peer: Peer) -> int:
    return START_STEPS + WARM_UP_STEPS + len(peer.offered())


def _open_steps(peer: Peer) -> int:
    names = {load.name for load in peer.offered()}
    return len(OPEN_SHARES) * len(names & {loads.JSON_AT_64, loads.RAW_AT_64})
