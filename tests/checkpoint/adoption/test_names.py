"""Names of weights as a damaged or hostile file may spell them."""

import time

import pytest

from simplenet.checkpoint.adoption.names import natural_key, prefixes, without_wrappers


def test_digits_that_are_no_decimal_numbers_are_text() -> None:
    assert sorted(["layer²", "layer10", "layer9", "layer٣"], key=natural_key)[:2] == ["layer9", "layer10"]


def test_wrappers_are_taken_off_as_often_as_every_weight_has_them() -> None:
    names = ["module.module.fc.weight", "module.fc.bias", "n_averaged"]
    assert list(without_wrappers(names, "m.pt").values()) == ["module.fc.weight", "fc.bias", "n_averaged"]
    assert without_wrappers(["module.module"], "m.pt") == {"module.module": "module"}


@pytest.mark.parametrize("name", ["module." * 200_000 + "weight", "." * 1_000_000, "a.b" * 100_000])
def test_long_names_take_no_time(name: str) -> None:
    start = time.monotonic()
    assert prefixes([name, f"{name}x"]) == [""]
    assert len(without_wrappers([name, f"{name}x"], "m.pt")) == 2
    assert time.monotonic() - start < 1


def test_prefixes_end_behind_the_first_dots() -> None:
    assert len(prefixes(["a." * 200 + "weight", "a." * 200 + "bias"])) == 33
