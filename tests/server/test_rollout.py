"""What deploy refuses before it asks the server anything, and how it registers and waits."""

import errno
import json
import os
import re
import resource
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from simplenet.archive import create_archive
from simplenet.cli.rollout import port_of
from simplenet.errors import ServerError
from simplenet.server import deploy, registered, rollback, versions
from simplenet.server.deployments import Deployments
from simplenet.server.history import History, Release, to_plain, write_state
from simplenet.server.journal import Journal, read_journal, remove_journal
from simplenet.server.management import write_token
from simplenet.server.origin import Origin, read_origin
from simplenet.server.record import Server, write_record
from simplenet.server.rollout import _what_is_live
from simplenet.server.run_dir import STOPPING


@pytest.fixture
def server(root):
    """A record of a server that runs: this process."""
    run_dir = root / "9000"
    (run_dir / "models").mkdir(parents=True)
    started = psutil.Process().create_time()
    server = Server(9000, os.getpid(), started, ("a", "b"), run_dir=run_dir, versions={"a": "1.0", "b": "1.0"})
    write_record(server)
    return server


def test_a_stock_frontend_is_refused_with_the_remedy(server, sample_archive):
    with pytest.raises(ServerError, match="management port has no token: start it without SIMPLENET_FRONTEND=stock"):
        deploy(sample_archive, port=9000)
    with pytest.raises(ServerError, match="management port has no token"):
        rollback(port=9000)


def test_a_server_that_is_being_stopped_or_has_died_is_refused(server, sample_archive):
    (server.run_dir / STOPPING).touch()
    with pytest.raises(ServerError, match="the server on port 9000 is being stopped"):
        deploy(sample_archive, port=9000)
    write_record(Server(9000, os.getpid(), 1.0, ("a",), run_dir=server.run_dir, versions={"a": "1.0"}))
    with pytest.raises(ServerError, match="has died; start it again with simplenet serve --port 9000"):
        versions(port=9000)


def test_an_unknown_model_is_named_with_those_that_are_served(server):
    with pytest.raises(ServerError, match="model: expected one of a, b, found 'c'"):
        versions("c", port=9000)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8090", "http://localhost:8090/", "http://[::1]:8090"])
def test_a_url_of_this_machine_selects_the_server_by_its_port(url):
    assert port_of(url) == 8090


@pytest.mark.parametrize("url", ["127.0.0.1", "8090", "http://127.0.0.1", "http://127.0.0.1:x", "http://10.0.0.1:8080"])
def test_any_other_url_is_refused_in_one_line(url):
    with pytest.raises(ServerError, match="--url: expected an address"):
        port_of(url)


@pytest.mark.parametrize(
    ("settings", "classes", "query"),
    [
        ({"maxBatchDelay": 1}, ["Model.class"], {}),
        ({"maxBatchDelay": 20}, ["Model.class"], {"max_batch_delay": 20_000}),  # the frontend counts microseconds
        ({}, ["Model.class"], {"max_batch_delay": 100_000}),
        ({"maxBatchDelay": 20}, ["Other.class"], {}),
    ],
)
def test_a_batch_delay_means_milliseconds_whatever_the_frontend_counts(tmp_path, settings, classes, query):
    for name in classes:
        file = tmp_path / "frontend" / "org" / "pytorch" / "serve" / "wlm" / name
        file.parent.mkdir(parents=True)
        file.touch()
    assert registered._batch_delay(Server(1, 1, 0.0, (), run_dir=tmp_path), settings) == query


def test_the_cause_is_told_that_a_worker_wrote_though_the_frontend_passes_it_on_late(server):
    server.logs.mkdir()
    (server.logs / "ts_log.log").write_text("now ERROR W-9000-a_2.0 - Backend worker error\n")
    late = "now INFO W-9000-a_2.0-stdout - ValueError: golden sample 0 differs\n"
    write = threading.Timer(0.7, (server.logs / "model_log.log").write_text, [late])
    write.start()
    assert registered._failure_in_full(server, {}, "a_2.0") == "ValueError: golden sample 0 differs"
    assert registered._failure_in_full(server, {}, "a_1.0") is None
    write.join()


def test_the_journal_says_what_was_under_way(tmp_path):
    assert read_journal(tmp_path) is None
    release = {"version": "2.0", "file": "net.mar", "contents": "c"}
    after = {"live": release, "previous": [], "withdrawn": None}
    journal = Journal("net", "2.0", "1.0", False, False, None, after).write(tmp_path)
    assert read_journal(tmp_path) == journal
    assert journal.switched(tmp_path).is_live
    assert read_journal(tmp_path).is_live
    remove_journal(tmp_path)
    assert read_journal(tmp_path) is None


DAMAGED = ["", "{", "[]", "{}", '{"model": "x"}', '{"model": 1}']
UNDER_WAY = {"model": "a", "version": "2.0", "leaving": "1.0", "keep": False, "was_registered": False}


@pytest.mark.parametrize(
    "text", [*DAMAGED, *(json.dumps({**UNDER_WAY, "before": None, "after": after}) for after in ({}, [], {"live": 1}))]
)
def test_a_damaged_journal_is_one_line_and_a_remedy_that_works(server, text):
    file = server.run_dir / "rollout.json"
    file.write_text(text)
    with pytest.raises(ServerError, match=r"rollout\.json: expected a deployment that was interrupted, found ") as one:
        read_journal(server.run_dir)
    assert "\n" not in str(one.value)
    subprocess.run(re.search(r": (rm .*), and try again", str(one.value))[1], shell=True, check=True)
    assert read_journal(server.run_dir) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model_store": 1}', '{"archives": {"a": 1}}', '{"contents": []}'])
def test_a_damaged_origin_is_one_line_and_one_of_another_version_is_read(server, text):
    file = server.run_dir / "models" / "origin.json"
    file.write_text(text)
    with pytest.raises(ServerError, match=r"origin\.json: expected what a server was started with, found ") as one:
        versions(port=9000)
    assert str(one.value).endswith("start the server again: simplenet stop --port 9000, then simplenet serve")
    file.write_text('{"foo": 1, "profile": null}')
    assert read_origin(server.run_dir) == Origin()


@pytest.fixture
def small_files() -> Iterator[None]:
    """Files of more than 100 kB cannot be written, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def second_version(tmp_path, trained_checkpoint) -> Path:
    return create_archive(trained_checkpoint, export_path=tmp_path, version="2.0")


def test_a_disk_that_is_full_is_named_with_what_is_live(stand_in, second_version, small_files):
    one = stand_in("simplenet")
    with pytest.raises(ServerError) as refused:
        deploy(second_version, port=one.server.port)
    kept = rf"{one.run_dir}/models/deployed/simplenet-2\.0-\w+\.mar"
    assert re.fullmatch(
        kept + ": File too large; free some space, and try again; simplenet 1.0 is still live", str(refused.value)
    )


def test_a_deployment_that_cannot_begin_leaves_no_copy(stand_in, second_version):
    one = stand_in("simplenet")
    (one.run_dir / "management.token").unlink()
    with pytest.raises(ServerError, match=r"management\.token: expected the token"):
        deploy(second_version, port=one.server.port)
    assert list((one.run_dir / "models" / "deployed").glob("*.mar")) == []


def test_what_is_live_is_told_of_a_disk_that_is_full_and_of_a_signal(server):
    lines: list[str] = []
    full = OSError(errno.ENOSPC, "No space left on device", "rollout.json")
    for live, state in (
        ("1.0", "a 1.0 is still live"),
        ("2.0", "a 2.0 is live; the next deploy finishes what is left"),
    ):
        for error, kind in ((full, ServerError), (KeyboardInterrupt(), KeyboardInterrupt)):
            deployments = Deployments(server, lines.append)
            with pytest.raises(kind) as raised, _what_is_live(deployments):
                deployments.model = "a"
                deployments.server = replace(server, versions={"a": live})
                raise error
            told = str(raised.value) if kind is ServerError else lines[-1]
            assert state in told
    with pytest.raises(KeyboardInterrupt), _what_is_live(Deployments(server, lines.append)):
        raise KeyboardInterrupt
    assert lines[-1] == "interrupted; nothing has changed"


def test_every_file_of_a_server_is_named_when_it_cannot_be_written(server, small_files):
    release = Release("1.0", Path("x" * 100_000), "c")
    history = History(release)
    journal = Journal("a", "2.0", "1.0", False, False, None, to_plain(history, server.run_dir))
    writes = {
        "server.json": lambda: write_record(replace(server, memory="x" * 100_000)),
        "deployed.json": lambda: write_state(server.run_dir, {"a": history}),
        "rollout.json": lambda: journal.write(server.run_dir),
        "models/origin.json": lambda: Origin("x" * 100_000).write(server.run_dir),
        "management.token": lambda: write_token(server.run_dir, "x" * 100_001),
    }
    for name, write in writes.items():
        with pytest.raises(OSError, match="File too large") as refused:
            write()
        assert refused.value.filename == str(server.run_dir / name)
