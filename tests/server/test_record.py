"""The record of a running server."""

import json
import os

import psutil
import pytest

from simplenet.errors import ServerError
from simplenet.server.record import Server, find, write_record


def test_a_record_in_a_folder_of_somebody_else_stops_nothing(root, monkeypatch):
    record = root / "9100" / "server.json"
    record.parent.mkdir()
    values = {"port": 9100, "pid": os.getpid(), "models": [], "run_dir": str(root)}
    values["started"] = psutil.Process().create_time()
    record.write_text(json.dumps(values))
    assert find(9100).process().pid == os.getpid()
    monkeypatch.setattr(os, "getuid", lambda: root.stat().st_uid + 1)
    with pytest.raises(ServerError, match="no server"):
        find(9100)


def test_a_record_reads_back_as_it_was_written(root):
    server = Server(
        9100, os.getpid(), psutil.Process().create_time(), ("net", "old"), "127.0.0.1", 3, root / "9100",
        {"net": "1.0", "old": "2.0"}, "memory: enough", ("old",),
    )  # fmt: skip
    write_record(server)
    assert find(9100) == server
