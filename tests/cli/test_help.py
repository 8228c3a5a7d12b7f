"""The help of every verb, which is instant because nothing heavy is imported for it."""

import subprocess
import sys

import pytest

from simplenet.cli.verbs import app

VERBS = sorted(
    command.name or command.callback.__name__ for command in app.registered_commands if command.callback is not None
)
CODE = """
import sys
from simplenet.cli import main
sys.argv = ["simplenet", *sys.argv[1:]]
try:
    main()
finally:
    print(sorted({"torch", "numpy", "boto3"} & set(sys.modules)), file=sys.stderr)
"""


def shown(*arguments: str) -> str:
    """What the command prints, having imported nothing heavy."""
    completed = subprocess.run(
        [sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert (completed.returncode, completed.stderr) == (0, "[]\n")
    return completed.stdout


def test_the_help_names_every_verb():
    text = shown("--help")
    assert "train" in VERBS
    assert all(f" {verb} " in text for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verbs_help_tells_its_options(verb):
    text = shown(verb, "--help")
    assert f"simplenet {verb} " in text
    assert "--help" in text


def test_the_defaults_of_a_run_are_shown():
    text = shown("train", "--help")
    assert all(default in text for default in ("10, or what", "[default: 64]", "[default: 256]", "[default: 3]"))
