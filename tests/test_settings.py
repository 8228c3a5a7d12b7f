"""The table of environment variables."""

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
