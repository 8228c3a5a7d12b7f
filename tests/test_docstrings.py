"""Every example in a docstring runs, and every public name has one."""

import doctest
import importlib
import pkgutil
import sys
import types
from pathlib import Path

import pytest

import simplenet

MODULES = ["simplenet", *(module.name for module in pkgutil.walk_packages(simplenet.__path__, "simplenet."))]


def failures_of(module: types.ModuleType) -> list[str]:
    """What each example that fails should have printed, and what it did."""
    reports: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        runner.run(test, out=reports.append)
    return reports


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    failures = failures_of(importlib.import_module(name))
    assert not failures, "\n".join(failures)


def test_an_example_that_prints_something_else_fails() -> None:
    module = types.ModuleType("wrong", ">>> 1 + 1\n3\n")
    assert "Expected:\n    3\nGot:\n    2\n" in "".join(failures_of(module))


@pytest.mark.parametrize("name", simplenet.__all__)
def test_every_public_name_has_an_example(name: str) -> None:
    documented = getattr(simplenet, name)
    _, heading, example = (documented.__doc__ or "").partition("Example:\n")
    assert heading, f"simplenet.{name}: expected an Example: in its docstring"
    assert doctest.DocTestParser().get_examples(example), f"simplenet.{name}: expected a line that starts with >>>"
    assert documented.__module__ in sys.modules
    assert documented.__module__ in MODULES
