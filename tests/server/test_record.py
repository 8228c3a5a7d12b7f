"""The record of a running server."""

import json
import os
import subprocess
import sys
import tempfile

import psutil
import pytest

from simplenet.errors import ServerError
from simplenet.server import lifecycle
from simplenet.server.processes import identity
from simplenet.server.record import Server, find, find_all, write_record
from simplenet.server.run_dir import run_roots

NET = {"net": "1.0"}


def test_a_record_in_a_folder_of_somebody_else_stops_nothing(root, monkeypatch):
    record = root / "9100" / "server.json"
    record.parent.mkdir()
    values = {"port": 9100, "pid": os.getpid(), "models": [], "run_dir": str(root / "9100")}
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


@pytest.mark.parametrize(("host", "reached"), [("0.0.0.0", "127.0.0.1"), ("127.0.0.2", "127.0.0.2"), ("me", "me")])
def test_an_address_that_means_all_is_reached_at_loopback(host, reached):
    assert Server(9100, 1, 2.0, (), host=host).loopback_url == f"http://{reached}:9100"


def test_a_server_is_known_whatever_became_of_the_clock(root):
    """The creation time moves when the clock is set: here by a day."""
    (root / "9100").mkdir()
    write_record(
        Server(9100, os.getpid(), 2.0, ("net",), run_dir=root / "9100", versions=NET, identity=identity(os.getpid()))
    )
    assert find(9100).process().pid == os.getpid()
    write_record(
        Server(
            9100,
            os.getpid(),
            psutil.Process().create_time(),
            ("net",),
            run_dir=root / "9100",
            versions=NET,
            identity="x",
        )
    )
    assert find(9100).process() is None  # the pid is another process's by now


@pytest.mark.parametrize("name", ["XDG_STATE_HOME", "HOME", "XDG_RUNTIME_DIR", "TMPDIR"])
def test_a_record_is_found_in_every_folder_that_run_directories_may_be_in(root, monkeypatch, name, tmp_path):
    (folder,) = (path for path in made_roots(monkeypatch, name, tmp_path))
    (folder / "9100").mkdir(parents=True)
    write_record(
        Server(9100, os.getpid(), 2.0, ("net",), run_dir=folder / "9100", versions=NET, identity=identity(os.getpid()))
    )
    assert find(9100).run_dir == folder / "9100"
    assert folder / "9100" in [server.run_dir for server in find_all()[0]]


def made_roots(monkeypatch, name, folder):
    """The root that this variable adds."""
    before = set(run_roots())
    monkeypatch.setenv(name, str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)  # it remembers TMPDIR
    return set(run_roots()) - before


def test_a_running_server_is_found_when_no_variable_leads_to_it(root, monkeypatch):
    config = root / "9100" / "config.properties"
    config.parent.mkdir()
    command = [sys.executable, "-c", "input()", "org.pytorch.serve.ModelServer", "-f", str(config)]
    with subprocess.Popen(command, stdin=-1) as frontend:
        known = identity(frontend.pid)
        write_record(Server(9100, frontend.pid, 2.0, ("net",), run_dir=root / "9100", versions=NET, identity=known))
        monkeypatch.delenv("XDG_STATE_HOME")
        assert root not in run_roots()
        assert find(9100).pid == frontend.pid
        assert root / "9100" in [server.run_dir for server in find_all()[0]]
        frontend.communicate()


GARBLED = [
    b"",
    b"\0" * 300,
    b"{",
    b"[]",
    b"{}",
    b'{"port": 9100, "pid": "7", "started": 1, "models": [], "run_dir": "/"}',
]
WRONG = {
    "versions": [[], {}, {"net": 1}, "1.0"],
    "started": [1e30, -1, "x", None, True],
    "model_workers": [{"simplenet": "x"}, {"net": 1.5}, []],
    "port": ["abc", 9105, 9100.0, -1],
    "drain_timeout_s": ["x", None],
    "pid": [0, -1, 2**40, 1.5, True],
    "models": ["net", [1], {}, None],
    "samples": [[], {"net": ["application/json"]}, {"net": [1, 2]}],
    "run_dir": [1, None],
    "host": [1],
}


@pytest.mark.parametrize("content", GARBLED)
def test_a_record_that_cannot_be_read_is_one_line_with_what_to_do(root, content):
    (root / "9100").mkdir()
    (root / "9100" / "server.json").write_bytes(content)
    with pytest.raises(
        ServerError, match=r"9100/server.json: expected the record .*: simplenet stop --port 9100$"
    ) as one:
        find(9100)
    assert "\n" not in str(one.value)
    assert str(one.value) in map(str, find_all()[1])


def test_a_record_of_another_run_directory_is_refused(root):
    """`stop` would end the processes of that one."""
    (root / "9100").mkdir()
    values = {"port": 9100, "pid": 1, "started": 2.0, "models": [], "run_dir": "/somewhere/9100"}
    (root / "9100" / "server.json").write_text(json.dumps(values))
    with pytest.raises(ServerError, match="found run_dir '/somewhere/9100'"):
        find(9100)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_field_of_another_type_is_one_line_and_stop_still_ends_the_server(root, name, value):
    folder = root / "9100"
    folder.mkdir()
    command = [sys.executable, "-c", "input()", "org.pytorch.serve.ModelServer", "-f", f"{folder}/config.properties"]
    with subprocess.Popen(command, stdin=-1, start_new_session=True) as frontend:
        write_record(Server(9100, frontend.pid, 2.0, ("net",), run_dir=folder, versions=NET))
        values = json.loads((folder / "server.json").read_text())
        assert find(9100).pid == frontend.pid
        (folder / "server.json").write_text(json.dumps({**values, name: value}))
        with pytest.raises(ServerError, match=rf"9100/server\.json: expected the record of a server, found {name} .*;"):
            find(9100)
        assert lifecycle.stop(9100, drain_timeout_s=0) is not None
        assert frontend.wait(timeout=60) != 0
    assert not (folder / "server.json").exists()
