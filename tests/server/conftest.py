"""A folder of run directories of its own for each test that asks for one."""

import pytest

from simplenet.server import record, run_dir


@pytest.fixture
def root(tmp_path, monkeypatch):
    for module in (record, run_dir):
        monkeypatch.setattr(module, "run_root", lambda: tmp_path)
    return tmp_path
