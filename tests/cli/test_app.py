"""How the command ends when a signal comes before any verb runs."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["typer", "simplenet.cli.serving"])
def test_a_signal_while_the_command_is_imported_is_an_exit_code_without_a_traceback(module):
    program = f"""
import importlib.abc, os, signal, sys
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            print("interrupted", flush=True)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from simplenet.cli.app import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "interrupted\n", "")
