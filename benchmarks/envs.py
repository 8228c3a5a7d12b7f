"""A separate environment for each peer, created on first use from exact pins."""

import ctypes.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVS = HERE / ".envs"
TORCH = "torch==2.13.0"
INSTALL_TIMEOUT_S = 900


class Unavailable(Exception):
    """A peer cannot be installed on this machine; the message is the reason in the report."""


def ensure(name: str, requirements: Path, *, torch: bool = True, distribution_python: bool = False) -> Path:
    """The Python of environment `name`, which is recreated when its pins change.

    Args:
        name: of the folder under .envs.
        requirements: exact pins.
        torch: install torch first.
        distribution_python: use the distribution's Python with its shared library, which Triton's stub links to.

    Raises:
        Unavailable: it cannot be created, with the last line of the error.
    """
    folder = ENVS / name
    stamp = folder / ".stamp"
    wanted = requirements.read_text() + (TORCH if torch else "")
    python = folder / "bin" / "python"
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    base = _distribution_python() if distribution_python else sys._base_executable  # type: ignore[attr-defined]
    shutil.rmtree(folder, ignore_errors=True)
    _run([base, "-m", "venv", str(folder)])
    if torch:
        _install_torch(python)
    _pip(python, "--requirement", str(requirements))
    stamp.write_text(wanted)
    return python


def _distribution_python() -> str:
    python = "/usr/bin/python3.11"
    hint = "Debian 12: apt install python3.11-venv libpython3.11"
    if not os.access(python, os.X_OK):
        raise Unavailable(f"needs the distribution's Python 3.11 ({hint})")
    if ctypes.util.find_library("python3.11") is None:
        raise Unavailable(f"needs libpython3.11 ({hint})")
    return python


def _install_torch(python: Path) -> None:
    """The CPU build where one is offered, for the same reasons as in scripts/bootstrap."""
    if index := os.environ.get("SIMPLENET_TORCH_INDEX"):
        _pip(python, TORCH, "--index-url", index, "--extra-index-url", "https://pypi.org/simple")
        return
    try:
        _pip(python, f"{TORCH}+cpu")
    except Unavailable:
        _pip(python, TORCH)


def _pip(python: Path, *arguments: str) -> None:
    _run([str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", *arguments])


def _run(command: list[str]) -> None:
    try:
        process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"cannot be installed: {type(error).__name__}") from error
    if process.returncode:
        lines = (process.stderr or process.stdout).strip().splitlines()
        raise Unavailable(f"cannot be installed: {lines[-1] if lines else 'no message'}")
