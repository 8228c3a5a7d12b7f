"""Deploying and rolling back on a real server: nothing is lost, nothing unverified is live, a restart remembers."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from zipfile import ZipFile

import pytest
import requests
from support import COMMAND_TIMEOUT_S, Running, processes_of, simplenet

from simplenet import SimpleNet, create_archive, save_for_inference
from simplenet.archive.profile import with_profile
from simplenet.errors import SimpleNetError
from simplenet.server import deploy, find, registered, rollback, versions
from simplenet.server.history import read_state, to_plain
from simplenet.server.journal import Journal, read_journal
from simplenet.server.record import write_record
from simplenet.server.registered import versions_of

ROW = b"\0" * 4 * 784
RAW = {"Content-Type": "application/octet-stream"}
CLIENTS = 8


def make_archive(folder: Path, version: str) -> Path:
    """An archive whose labels say its version."""
    checkpoint = folder / f"{version}.pt"
    classes = [f"{version}/{index}" for index in range(10)]
    save_for_inference(SimpleNet(784, 16, 10), checkpoint, {"accuracy": 0.5}, classes=classes)
    return create_archive(checkpoint, version=version, export_path=folder / version)


def edited(archive: Path, target: Path, edits: dict[str, tuple[bytes, bytes]]) -> Path:
    """A copy of an archive in which bytes of some files are replaced."""
    with ZipFile(archive) as source, ZipFile(target, "w") as copy:
        for name in source.namelist():
            contents, (old, new) = source.read(name), edits.get(name, (b"", b""))
            assert old in contents
            copy.writestr(name, contents.replace(old, new) if old else contents)
    return target


def tampered(archive: Path, target: Path) -> Path:
    contents = bytearray(archive.read_bytes())
    contents[len(contents) // 2] ^= 1
    target.write_bytes(contents)
    return target


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("archives")
    made = {version: make_archive(folder, version) for version in ("1.0", "2.0")}
    manifest = "MAR-INF/MANIFEST.json"
    to_version_3 = (b'"modelVersion": "2.0"', b'"modelVersion": "3.0"')
    no_relu = {"simplenet/model.py": (b"self.relu(self.fc1(x))", b"self.fc1(x)")}
    made["drifted"] = edited(made["2.0"], folder / "drifted.mar", {**no_relu, manifest: to_version_3})
    to_other = (b'"modelName": "simplenet"', b'"modelName": "other"')
    made["other"] = edited(made["1.0"], folder / "other.mar", {manifest: to_other})
    made["tampered"] = tampered(made["2.0"], folder / "tampered.mar")
    return made


@pytest.fixture
def store(archives: dict[str, Path], tmp_path: Path) -> Path:
    """A model store of its own with version 1.0."""
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / "simplenet.mar").write_bytes(archives["1.0"].read_bytes())
    return folder


@pytest.fixture(scope="module")
def small_server(start_shared_server: Callable[..., Running], trained_checkpoint: Path) -> Running:
    """A server without a model store, told that it has little memory."""
    return start_shared_server("--checkpoint", trained_checkpoint, SIMPLENET_MEMORY="1500m")


def version_at(address: str) -> str:
    response = requests.post(address, data=ROW, headers=RAW, timeout=30)
    assert response.status_code == 200, response.text
    return str(response.json()["predictions"][0]["label"].split("/")[0])


class Load:
    """Clients in a closed loop, and what they got."""

    def __init__(self, address: str, live: str) -> None:
        self._address = address
        self.may_answer = frozenset({live})
        self.outcomes: Counter[str] = Counter()
        self._stop = threading.Event()

    def client(self) -> None:
        with requests.Session() as session:
            while not self._stop.is_set():
                before = self.may_answer
                try:
                    response = session.post(self._address, data=ROW, headers=RAW, timeout=60)
                    answer = str(response.status_code)
                    if response.ok:
                        version = response.json()["predictions"][0]["label"].split("/")[0]
                        answer = version if version in before | self.may_answer else f"{version}, which was not live"
                except requests.RequestException as error:
                    answer = type(error).__name__
                self.outcomes[answer] += 1

    @contextmanager
    def running(self) -> Iterator[None]:
        clients = [threading.Thread(target=self.client) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            self._stop.set()
            for client in clients:
                client.join()

    def change(self, old: str, new: str, action: Callable[[], object]) -> None:
        """Run an action that makes `new` live instead of `old`."""
        self.may_answer = frozenset({old, new})
        action()
        self.may_answer = frozenset({new})


@contextmanager
def killing_the_next_worker(server: Running) -> Iterator[None]:
    """Kill the first worker that starts meanwhile, before it has loaded its model."""
    frontend, ended, killed = find(server.port).process(), threading.Event(), []
    known = {child.pid for child in frontend.children(recursive=True)}

    def watch() -> None:
        while not killed and not ended.wait(0.02):
            for child in frontend.children(recursive=True):
                if child.pid not in known and "model_service_worker" in " ".join(child.cmdline()):
                    child.kill()
                    killed.append(child)
                    return

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()
    assert killed


def test_no_request_is_lost_while_versions_change_and_broken_ones_are_refused(start_server, archives, store):
    server = start_server("--model-store", store)
    load = Load(server.predictions, "1.0")
    with load.running():
        for round_ in range(2):
            with killing_the_next_worker(server) if round_ == 0 else nullcontext():
                load.change("1.0", "2.0", lambda: deploy(archives["2.0"], port=server.port))
            for refused, why in (("drifted", "golden samples .* 2.0 is still live"), ("tampered", "checksum")):
                with pytest.raises(SimpleNetError, match=why):
                    deploy(archives[refused], port=server.port)
            load.change("2.0", "1.0", lambda: rollback(port=server.port))
    assert set(load.outcomes) == {"1.0", "2.0"}, load.outcomes
    assert min(load.outcomes.values()) > CLIENTS
    assert versions_of(find(server.port), "simplenet") == ["1.0"]
    assert [(each.version, each.status) for each in versions(port=server.port)] == [
        ("1.0", "live"),
        ("2.0", "withdrawn"),
    ]
    assert find(server.port).versions == {"simplenet": "1.0"}
    assert len(list((store / "deployed").glob("*.mar"))) == 2


def test_the_commands_say_what_they_do_and_a_restart_serves_what_was_deployed(start_server, archives, store):
    server = start_server("--model-store", store)
    # Users replace the archive in the store; the version that it held can still be returned to.
    archives["2.0"].with_name("copy.mar").write_bytes(archives["2.0"].read_bytes())
    archives["2.0"].with_name("copy.mar").replace(store / "simplenet.mar")
    done = simplenet("deploy", store / "simplenet.mar", "--url", server.url, "--keep")
    assert done.returncode == 0, done.stderr
    assert f"simplenet 2.0 is live at {server.predictions}; 1.0 was before" in done.stdout
    assert "2.0 is already live" in simplenet("deploy", archives["2.0"], "--port", str(server.port)).stdout
    assert version_at(server.predictions) == "2.0"
    assert version_at(f"{server.predictions}/1.0") == "1.0"
    listed = simplenet("versions", "--port", str(server.port)).stdout
    assert [line.split("│")[2:4] for line in listed.splitlines() if "simplenet" in line] == [
        [" 2.0     ", " live   "],
        [" 1.0     ", " kept   "],
    ]
    assert simplenet("stop", "--port", str(server.port)).returncode == 0

    (store / "simplenet.mar").write_bytes(archives["drifted"].read_bytes())  # never deployed
    again = start_server("--model-store", store)
    assert f"{store / 'simplenet.mar'}: simplenet 3.0 is not served: 2.0 is deployed" in again.output
    assert version_at(again.predictions) == "2.0"
    assert rollback(port=again.port).version == "1.0"
    assert version_at(again.predictions) == "1.0"
    done = simplenet("rollback", "simplenet", "--port", str(again.port))
    assert done.returncode == 1
    assert "no version was live before 1.0" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_deployment_that_is_killed_is_undone_or_finished_by_the_next_and_only_one_runs_at_a_time(
    start_server, archives, store
):
    server = start_server("--model-store", store)
    record = find(server.port)
    command = [str(Path(sys.executable).with_name("simplenet")), "deploy", str(archives["2.0"])]
    with subprocess.Popen([*command, "--port", str(server.port)], stdout=subprocess.DEVNULL) as first:
        deadline = time.monotonic() + COMMAND_TIMEOUT_S
        while versions_of(record, "simplenet") == ["1.0"]:
            assert time.monotonic() < deadline
            assert first.poll() is None
        first.send_signal(signal.SIGSTOP)
        with pytest.raises(SimpleNetError, match="another deployment is under way"):
            deploy(archives["2.0"], port=server.port)
        first.kill()
    assert version_at(server.predictions) == "1.0"
    lines: list[str] = []
    deploy(archives["2.0"], port=server.port, keep=True, say=lines.append)
    assert lines[0] == "simplenet 2.0: undoing the deployment that was interrupted"
    assert version_at(server.predictions) == "2.0"

    # What a deployment leaves that is killed just after the new version became the default.
    after = to_plain(read_state(store)["simplenet"], store)
    Journal("simplenet", "2.0", "1.0", keep=False, was_registered=False, before=None, after=after).write(record.run_dir)
    write_record(record)
    lines.clear()
    deploy(archives["2.0"], port=server.port, say=lines.append)
    assert lines[0] == "simplenet 2.0: finishing the deployment that was interrupted"
    assert lines[-1] == "simplenet 2.0 is already live"
    assert versions_of(record, "simplenet") == ["2.0"]
    assert find(server.port).versions == {"simplenet": "2.0"}


def test_a_version_whose_workers_do_not_fit_into_memory_is_refused_and_nothing_has_changed(
    small_server, archives, tmp_path
):
    port, record = small_server.port, find(small_server.port)
    processes, known = processes_of(port), versions_of(record, "simplenet")
    profile = tmp_path / "profile.yaml"
    profile.write_text("minWorkers: 50\nmaxWorkers: 50\n")
    with_profile(archives["2.0"], str(profile), tmp_path / "many.mar")
    done = simplenet("deploy", tmp_path / "many.mar", "--port", str(port))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "simplenet 2.0: expected 11." in line
    assert re.search(
        r"GiB of memory for 50 more workers, found [\d.]+ [MG]iB left of the 1\.5 GiB of SIMPLENET_MEMORY", line
    )
    assert "; start the server with a larger SIMPLENET_MEMORY, or set minWorkers and maxWorkers to " in line
    assert line.endswith(f"simplenet {record.versions['simplenet']} is still live")
    assert (processes_of(port), versions_of(record, "simplenet"), find(port)) == (processes, known, record)
    assert read_journal(record.run_dir) is None
    assert not list((record.run_dir / "models" / "deployed").glob("simplenet-2.0-*"))
    assert version_at(small_server.predictions) in "0123456789"


def test_a_new_model_is_added_where_nothing_can_be_kept_and_a_version_means_one_archive(
    small_server, archives, tmp_path
):
    server, before = small_server, find(small_server.port)
    (tmp_path / "slow.yaml").write_text("responseTimeout: 300\n")
    with_profile(archives["other"], str(tmp_path / "slow.yaml"), tmp_path / "other.mar")
    lines: list[str] = []
    deploy(tmp_path / "other.mar", port=server.port, say=lines.append)
    assert lines[0].startswith("what is deployed lasts until the server on port")
    assert version_at(f"{server.url}/predictions/other") == "1.0"
    assert before.response_timeout_s < find(server.port).response_timeout_s == 300
    # Undoing a deployment waits as long for the new version's requests, which the record does not know yet.
    assert registered._longest_request_s(before, "other", "1.0") == 300 + before.max_queue_wait_s
    assert version_at(server.predictions) in "0123456789"
    with_profile(archives["other"], "latency", tmp_path / "latency.mar")
    with pytest.raises(SimpleNetError, match=r"other 1\.0 was deployed with other contents; give this one a version"):
        deploy(tmp_path / "latency.mar", port=server.port)
    with pytest.raises(SimpleNetError, match=r"simplenet 1\.0 was deployed with other contents"):
        deploy(archives["1.0"], port=server.port)
    with pytest.raises(SimpleNetError, match="model: expected one of simplenet, other, found none"):
        rollback(port=server.port)
