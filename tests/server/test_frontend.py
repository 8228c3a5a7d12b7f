"""The changed classes of TorchServe's frontend: what is changed, and when nothing is."""

import shutil
import subprocess
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from simplenet.errors import ServerError
from simplenet.server import frontend
from simplenet.server.frontend import CHANGES, JAR, LEAST_DELAY, PACKAGE, class_path, in_use, is_own

HOME = Path(find_spec("ts").origin).parent
STOCK = f"{HOME / 'frontend'}/*"
SOURCES = Path(frontend.__file__).parent / "java"
OWN = {f"{PACKAGE}/{file.name}" for file in SOURCES.glob("*.class")}


@pytest.fixture(autouse=True)
def _switched_on(monkeypatch):
    monkeypatch.delenv("SIMPLENET_FRONTEND", raising=False)


def changed(run_dir: Path) -> set[str]:
    folder = run_dir / "frontend"
    return {str(file.relative_to(folder)) for file in folder.rglob("*.class")}


def test_of_each_class_one_constant_differs_from_the_installed_one(tmp_path):
    assert class_path(HOME, tmp_path, least_delay=True) == f"{tmp_path / 'frontend'}:{STOCK}"
    assert changed(tmp_path) == {change.entry for change in CHANGES} | OWN
    assert (in_use(tmp_path), is_own(tmp_path)) == ("fast", True)
    with zipfile.ZipFile(HOME / "frontend" / JAR) as jar:
        for change in CHANGES:
            before, after = jar.read(change.entry), (tmp_path / "frontend" / change.entry).read_bytes()
            assert before.count(change.old) == 1
            assert after == before.replace(change.old, change.new) != before


def test_a_longer_batch_delay_keeps_its_milliseconds(tmp_path):
    class_path(HOME, tmp_path, least_delay=False)
    assert changed(tmp_path) == {change.entry for change in CHANGES} - {LEAST_DELAY.entry} | OWN
    assert in_use(tmp_path) == "fast, batch delay in ms"


def test_the_frontend_stays_as_it_is_when_told_so(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMPLENET_FRONTEND", "stock")
    assert class_path(HOME, tmp_path, least_delay=True) == STOCK
    assert changed(tmp_path) == set()
    assert (in_use(tmp_path), is_own(tmp_path)) == ("stock", False)


def test_a_frontend_of_another_version_stays_as_it_is(tmp_path):
    jar = tmp_path / "frontend" / JAR
    jar.parent.mkdir()
    with zipfile.ZipFile(HOME / "frontend" / JAR) as ours, zipfile.ZipFile(jar, "w") as other:
        for change in CHANGES:
            other.writestr(change.entry, ours.read(change.entry) + b"\0")
    assert class_path(tmp_path, tmp_path / "run", least_delay=True) == f"{tmp_path / 'frontend'}/*"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [None, b"no zip", b"PK\x05\x06" + bytes(18)])
def test_a_jar_that_is_not_torchserves_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "frontend").mkdir()
        (tmp_path / "frontend" / JAR).write_bytes(content)
    with pytest.raises(ServerError, match=r"model-server.jar: not TorchServe's frontend"):
        class_path(tmp_path, tmp_path / "run", least_delay=True)


def javac() -> str | None:
    """A compiler of the version that made the classes."""
    command = shutil.which("javac")
    version = command and subprocess.run([command, "-version"], capture_output=True, text=True, check=False).stdout
    return command if version and version.startswith("javac 17.") else None


@pytest.mark.skipif(javac() is None, reason="needs javac 17")
def test_the_classes_of_our_own_are_what_their_sources_say(tmp_path):
    command = [javac(), "--release", "11", "-g:none", "-nowarn", "-cp", str(HOME / "frontend" / JAR)]
    subprocess.run([*command, "-d", str(tmp_path), *map(str, SOURCES.glob("*.java"))], check=True)
    compiled = {file.name: file.read_bytes() for file in (tmp_path / PACKAGE).glob("*.class")}
    assert compiled == {file.name: file.read_bytes() for file in SOURCES.glob("*.class")}
