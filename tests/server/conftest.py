"""A folder of run directories of its own for each test that asks for one."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stand_in import StandIn
from support import free_port


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tempfile.mkdtemp(dir=os.environ["XDG_STATE_HOME"])  # tmp_path is too long for a socket below it
    monkeypatch.setenv("XDG_STATE_HOME", folder)
    run_root = Path(folder) / "simplenet"
    run_root.mkdir(mode=0o700)
    yield run_root
    shutil.rmtree(folder)


@pytest.fixture
def stand_in(root: Path) -> Iterator[Callable[..., StandIn]]:
    """Start servers whose frontend is a stand-in; they are ended with the test."""
    started: list[StandIn] = []

    def start(*models: str, **options: object) -> StandIn:
        started.append(StandIn(root / str(free_port()), models or ("net",), **options))
        return started[-1]

    yield start
    for one in started:
        one.end()
