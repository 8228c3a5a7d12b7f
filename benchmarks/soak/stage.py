"""What every promise needs to be shown: networks, requests, a server; and what it gives back."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.soak import network, server, traffic
from benchmarks.soak.collection import Collection
from benchmarks.soak.verdict import Line

Advance = Callable[[float, str], None]  # the share that is done, and what happens
WARM_UP_S = 2.0


@dataclass(frozen=True)
class Shown:
    """The verdict on one promise, and every number behind it."""

    lines: list[Line]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """Where a promise is shown.

    Args:
        folder: for files.
        networks: what may be served.
        requests: what may be sent.
        port: of the server; None for a free one.
        count: how often, where the promise says how often; None for as often as it says.
        advance: moves the bar.
    """

    folder: Path
    networks: network.Networks
    requests: Collection
    port: int | None
    count: int | None
    advance: Advance

    @contextmanager
    def served(self, workers: int, *options: str) -> Iterator[server.Running]:
        """The weights "A", served and warm."""
        self.advance(0, "server")
        starting: AbstractContextManager[server.Running] = server.served(
            self.networks.archives["A"], self.folder, workers, self.port, *options
        )
        with starting as running:
            traffic.warmed_up(running.port, self.requests.small(), WARM_UP_S)
            yield running

    def profile(self, batch: int, delay_ms: int) -> str:
        """The option for a profile with this size of a batch, for which a worker waits so long."""
        file = self.folder / "soak.yaml"
        file.write_text(f"batchSize: {batch}\nmaxBatchDelay: {delay_ms}\nresponseTimeout: 60\nstartupTimeout: 120\n")
        return f"--profile={file}"


@contextmanager
def stage(port: int | None, count: int | None, seed: int, advance: Advance) -> Iterator[Stage]:
    """Make the networks and the requests."""
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        advance(0, "networks")
        networks = network.networks(Path(name))
        yield Stage(Path(name), networks, Collection(networks, seed), port, count, advance)
