"""Model stores that are not in order, and disks that are full."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from support import free_port, processes_of, simplenet

from simplenet import create_archive


@pytest.fixture(scope="module")
def mixed_archives(trained_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good archive; one that is no zip; one that verification refuses; one that a worker cannot load."""
    tmp_path = tmp_path_factory.mktemp("mixed")
    store = tmp_path / "mixed"
    create_archive(trained_checkpoint, model_name="good", export_path=store)
    (store / "junk.mar").write_bytes(b"junk")
    tampered = create_archive(trained_checkpoint, model_name="tampered", export_path=tmp_path)
    with ZipFile(tampered) as source, ZipFile(store / "tampered.mar", "w") as copy:
        for name in source.namelist():
            if not name.startswith("checkpoint"):
                copy.writestr(name, source.read(name))
    with ZipFile(create_archive(trained_checkpoint, model_name="broken", export_path=store), "a") as archive:
        archive.writestr("orjson/__init__.py", "raise ImportError('orjson was built for another Python')")
    return store


@pytest.fixture
def mixed_store(mixed_archives: Path, tmp_path: Path) -> Path:
    """A store of its own with these archives."""
    return Path(shutil.copytree(mixed_archives, tmp_path / "mixed"))


def test_the_good_archives_of_a_store_are_served_and_each_bad_one_is_named(mixed_store):
    port = free_port()
    done = simplenet("serve", "--port", str(port), "--model-store", mixed_store, "--detach")
    try:
        assert done.returncode == 0, done.stderr
        assert "predictions/good" in done.stdout.splitlines()[-1]
        found = {line.removeprefix("not served: ") for line in done.stderr.splitlines()}
        assert len(found) == 3
        for name, reason in (("junk.mar", "not a zip"), ("tampered.mar", ""), ("broken", "built for another Python")):
            assert any(name in line and reason in line for line in found), found
        url = f"http://127.0.0.1:{port}"
        assert simplenet("predict", "data/digit.png", "--model", "good", "--url", url).returncode == 0
        listed = simplenet("status", "--port", str(port)).stdout
        assert "good 1.0" in listed
        assert "1 of 1" in listed
    finally:
        simplenet("stop", "--port", str(port))
    assert processes_of(port) == []


@pytest.mark.parametrize("left", [["good", "junk"], ["good", "broken"]])
def test_a_strict_store_is_refused_for_one_bad_archive(mixed_store, left):
    for file in mixed_store.iterdir():
        if file.stem not in left:
            file.unlink()
    port = free_port()
    done = simplenet("serve", "--port", str(port), "--model-store", mixed_store, "--strict-store")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert ("not a zip" if "junk" in left else "built for another Python") in line
    assert processes_of(port) == []


def test_a_store_that_is_not_there_serves_nothing(tmp_path):
    done = simplenet("serve", "--port", str(free_port()), "--model-store", tmp_path / "store")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "store: expected a folder of .mar files, found none; correct --model-store" in line
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_in_one_line(sample_archive, tmp_path):
    """The file system passes the check before the start and is filled while Java starts."""
    shutil.copy(sample_archive, tmp_path / "net.mar")
    state = Path(os.environ["XDG_STATE_HOME"]) / "full"
    state.mkdir()
    port = free_port()
    serve = f'"{Path(sys.executable).with_name("simplenet")}" serve --port {port} --model-store "{tmp_path}"'
    script = f"""mount -t tmpfs -o size=80m none "{state}"
export XDG_STATE_HOME="{state}"
{serve} &
while ! [ -e "{state}/simplenet/{port}/server.json" ]; do sleep 0.01; done
cat /dev/zero > "{state}/rest" 2> "{tmp_path}/filled"
wait $!"""
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", script],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    state.rmdir()
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip("this user may not mount a file system")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"{state}/simplenet/{port}: no space left on device: " in line
    assert "MB needed, 0 MB free" in line
    assert processes_of(port) == []
