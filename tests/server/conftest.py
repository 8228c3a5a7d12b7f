"""A folder of run directories of its own for each test that asks for one."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tempfile.mkdtemp(dir=os.environ["XDG_STATE_HOME"])  # tmp_path is too long for a socket below it
    monkeypatch.setenv("XDG_STATE_HOME", folder)
    run_root = Path(folder) / "simplenet"
    run_root.mkdir(mode=0o700)
    yield run_root
    shutil.rmtree(folder)
