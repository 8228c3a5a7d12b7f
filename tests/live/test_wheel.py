"""`pip install .`: the command works from any folder, without a checkout."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from support import COMMAND_TIMEOUT_S, free_port, processes_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `simplenet` command of a fresh environment that holds a wheel of this checkout, not the checkout.

    The wheel is installed by pip. Its dependencies are those of the environment that runs the tests, of the same exact
    versions, by a .pth file: in a folder that one names, Python does not follow the editable installation's own.
    """
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, timeout=COMMAND_TIMEOUT_S)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "environment", with_pip=False, symlinks=True)
    python = folder / "environment" / "bin" / "python"
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.run([python, "-c", script], check=True, capture_output=True, text=True).stdout.strip()
    Path(packages, "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "-qq",
        "--no-deps",
        "--ignore-installed",
    ]
    subprocess.run([*install, str(wheel)], check=True, timeout=COMMAND_TIMEOUT_S)
    return python.with_name("simplenet")


def test_a_wheel_serves_the_sample_model_from_any_folder(installed, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(*arguments: str | Path) -> str:
        done = subprocess.run(
            [installed, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
            timeout=COMMAND_TIMEOUT_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    code = "import simplenet; print(simplenet.__file__)"
    python = installed.with_name("python")
    home = subprocess.run(
        [python, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert Path(home.stdout.strip()).is_relative_to(installed.parents[1])
    port = free_port()
    printed = run("serve", "--port", str(port), "--detach")
    try:
        assert (tmp_path / "model_store" / "simplenet.mar").is_file()
        curl = next(line for line in printed.splitlines() if line.startswith("curl "))
        answer = subprocess.run(["bash", "-c", f"{curl} --silent --fail"], capture_output=True, text=True, check=True)
        assert '"label":"7"' in answer.stdout
    finally:
        run("stop", "--port", str(port))
    assert processes_of(port) == []
