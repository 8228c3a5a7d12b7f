"""A clone, a model store, an archive and a working folder with a path of every kind of letter."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import COMMAND_TIMEOUT_S, free_port, processes_of

ROOT = Path(__file__).parents[2]
TREE = ("simplenet", "config", "config.properties", "handlers", "data")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the project, with the environment that is there."""
    folder = tmp_path / "Ünïcode 😀 #1, a=b %41" / "clone"
    folder.mkdir(parents=True)
    for name in TREE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(Path(sys.prefix))
    return folder


@pytest.mark.parametrize("language", ["C.UTF-8", "C"])
def test_a_clone_in_a_folder_of_any_name_serves_predicts_logs_and_stops(clone, sample_archive, tmp_path, language):
    store = clone / "störe"
    store.mkdir()
    shutil.copy(sample_archive, store / "ä,b=c #2.mar")
    config = clone / "config.properties"
    config.write_text(config.read_text() + f"# für {clone}\nvmargs=-XX:+UseSerialGC '-Dmine={clone}'\n")
    environment = {**os.environ, "LC_ALL": language, "LANG": language, "PYTHONPATH": str(clone), "TMPDIR": str(clone)}
    port = free_port()

    def simplenet(*arguments: str, **changed: str) -> str:
        program = [str(clone / ".venv" / "bin" / "python"), "-c", "from simplenet.cli.app import main; main()"]
        done = subprocess.run(
            [*program, *arguments], cwd=clone, env={**environment, **changed}, capture_output=True, text=True,
            timeout=COMMAND_TIMEOUT_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    try:
        printed = simplenet("serve", "--port", str(port), "--detach", "--model-store", store.name)
        curl = shlex.split(printed.splitlines()[-1])
        assert b'"label":"7"' in subprocess.run(curl, capture_output=True, check=True).stdout
        assert " 7 " in simplenet("predict", "data/digit.png", "--url", f"http://127.0.0.1:{port}")
        (logs,) = re.findall(r"logs: (.+)\)", printed)
        assert "worker " in (Path(logs) / "model_log.log").read_text()
        assert (Path(logs) / "ts_log.log").is_file()  # log4j has found its configuration
    finally:
        simplenet("stop", "--port", str(port), XDG_STATE_HOME=str(tmp_path), TMPDIR="/", HOME="/")
    assert processes_of(port) == []
