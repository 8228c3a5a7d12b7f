"""The table of environment variables."""

import logging
from pathlib import Path

import pytest

from simplenet import settings
from simplenet.errors import SettingError


def test_the_help_names_every_variable_and_all_its_values():
    text = settings.help_text()
    for variable in settings.VARIABLES:
        (line,) = [line for line in text.splitlines() if line.startswith(f"{variable.name}: ")]
        assert all(value in line for value in variable.values)


def test_the_readme_lists_every_variable_in_this_order():
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    places = [readme.index(f"\n| `{variable.name}` |") for variable in settings.VARIABLES]
    assert places == sorted(places)


@pytest.mark.parametrize("variable", [v for v in settings.VARIABLES if v.values], ids=lambda v: v.name)
def test_a_value_is_read_in_any_case_and_a_wrong_one_refused(monkeypatch, variable):
    for value in variable.values:
        monkeypatch.setenv(variable.name, value.upper())
        assert variable.read() == value
        settings.check_settings()
    monkeypatch.setenv(variable.name, "")
    assert variable.read() == variable.default
    monkeypatch.setenv(variable.name, "nonsense")
    with pytest.raises(SettingError, match=f"{variable.name}: expected one of .*, found 'nonsense'"):
        settings.check_settings()


@pytest.mark.parametrize(
    ("given", "level"),
    [
        *[("warning", logging.WARNING), ("CRITICAL", logging.CRITICAL), ("Debug", logging.DEBUG)],
        *[("fatal", logging.CRITICAL), ("", logging.WARNING)],
    ],
)
def test_a_worker_knows_pythons_names_of_levels_too(monkeypatch, caplog, given, level):
    monkeypatch.setenv("SIMPLENET_LOG_LEVEL", given)
    assert settings.worker_log_level() == level
    assert caplog.text == ""


@pytest.mark.parametrize("variable", [v for v in settings.VARIABLES if v.values], ids=lambda v: v.name)
def test_a_worker_warns_of_a_value_that_is_none_and_takes_the_default(monkeypatch, caplog, variable):
    monkeypatch.setenv(variable.name, "nonsense")
    assert variable.read_or_warn() == variable.default
    assert f"{variable.name}: expected one of '" in caplog.text
    assert f"found 'nonsense'; taking '{variable.default}'" in caplog.text


def test_a_level_that_is_none_does_not_stop_a_worker(monkeypatch):
    monkeypatch.setenv("SIMPLENET_LOG_LEVEL", "loud")
    assert settings.worker_log_level() == logging.WARNING
