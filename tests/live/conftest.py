"""A real TorchServe, started once a session through the command that users call."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import Running, free_port, processes_of, simplenet

from simplenet import create_archive


@pytest.fixture(scope="session")
def start_server() -> Iterator[Callable[..., Running]]:
    """Start servers with `simplenet serve --detach`; those that still run at the end of the session are stopped."""
    ports: list[int] = []

    def start(*arguments: str | Path, checkpoint: Path | None = None, **environment: str) -> Running:
        port = free_port()
        ports.append(port)
        done = simplenet("serve", "--port", str(port), "--detach", *arguments, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return Running(port, done.stdout, checkpoint)

    yield start
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda port: simplenet("stop", "--port", str(port)), ports))
    assert [processes_of(port) for port in ports] == [[]] * len(ports)


@pytest.fixture(scope="session")
def model_store(trained_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the trained model, archived as users do."""
    folder = tmp_path_factory.mktemp("store")
    create_archive(trained_checkpoint, export_path=folder)
    return folder


@pytest.fixture(scope="session")
def server(start_server: Callable[..., Running], model_store: Path, trained_checkpoint: Path) -> Running:
    """The trained model, served."""
    return start_server("--model-store", model_store, checkpoint=trained_checkpoint)
