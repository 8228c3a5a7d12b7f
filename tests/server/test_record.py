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
        9100, os.getpid(), psutil.Process().create_time(), ("net", "old"), "127.0.0.1", {"net": 3, "old": 1},
        root / "9100", {"net": "1.0", "old": "2.0"}, "memory: enough", ("old",),
    )  # fmt: skip
    write_record(server)
    assert find(9100) == server


def test_a_record_of_another_version_is_read_as_far_as_it_is_known(root):
    values = {"port": 9100, "pid": 1, "started": 2.0, "models": ["net"], "run_dir": str(root / "9100")}
    (root / "9100").mkdir()
    (root / "9100" / "server.json").write_text(json.dumps({**values, "workers": 1, "colour": "green"}))
    assert find(9100) == Server(9100, 1, 2.0, ("net",), run_dir=root / "9100")


@pytest.mark.parametrize(
    ("numbers", "words"), [({"net": 2, "other": 2}, "2 a model"), ({"net": 2, "other": 1}, "net 2, other 1")]
)
def test_the_workers_are_told_by_model_where_they_differ(numbers, words):
    assert Server(9100, 1, 2.0, tuple(numbers), model_workers=numbers).workers == words
