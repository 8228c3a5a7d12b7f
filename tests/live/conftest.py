"""Real TorchServes, started through the command that users call; one is shared by all tests of a process."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import Running, free_port, processes_of, simplenet

Start = Callable[..., Running]


@contextmanager
def _servers() -> Iterator[Start]:
    """Start servers with `simplenet serve --detach`; those that still run at the end are stopped."""
    ports: list[int] = []

    def start(*arguments: str | Path, checkpoint: Path | None = None, **environment: str) -> Running:
        port = free_port()
        ports.append(port)
        done = simplenet("serve", "--port", str(port), "--detach", *arguments, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return Running(port, done.stdout, checkpoint)

    yield start
    running = [port for port in ports if processes_of(port)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda port: simplenet("stop", "--port", str(port)), running))
    assert [processes_of(port) for port in ports] == [[]] * len(ports)


@pytest.fixture
def start_server() -> Iterator[Start]:
    """Start servers that run until the end of the test: an idle one takes a hundredth of a processor."""
    with _servers() as start:
        yield start


@pytest.fixture(scope="module")
def start_shared_server() -> Iterator[Start]:
    """Start servers that run until the end of the module."""
    with _servers() as start:
        yield start


@pytest.fixture(scope="session")
def model_store(sample_archive: Path) -> Path:
    """A store with the trained model, archived as users do."""
    return sample_archive.parent


@pytest.fixture(scope="session")
def server(model_store: Path, trained_checkpoint: Path) -> Iterator[Running]:
    """The trained model, served."""
    with _servers() as start:
        yield start("--model-store", model_store, checkpoint=trained_checkpoint)
