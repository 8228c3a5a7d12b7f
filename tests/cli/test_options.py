"""Options whose value is more than one word."""

import pytest

from simplenet.cli.options import parse_normalize, parse_shape, parse_sizes
from simplenet.errors import ConfigError


def test_the_words_of_an_option_are_read():
    assert parse_shape("1, 28,28") == (1, 28, 28)
    assert parse_sizes("128,64", "--hidden-sizes") == (128, 64)
    assert parse_normalize("0.1307, 0.3081") == {"mean": [0.1307], "std": [0.3081]}
    assert parse_normalize("1,2,3,4,5,6") == {"mean": [1, 2, 3], "std": [4, 5, 6]}


@pytest.mark.parametrize("text", ["", " ", "1,,2", "1x28x28", "0", "-1", "1.5", "¹", "9999999999"])
def test_a_shape_that_is_none_is_refused_in_one_line(text):
    with pytest.raises(ConfigError, match="--input-shape: expected whole numbers above 0, separated by commas, found"):
        parse_shape(text)


@pytest.mark.parametrize("text", ["", "0.1307", "0.1,0.2,0.3", "a,b", "0.1;0.2"])
def test_means_without_their_stds_are_refused_in_one_line(text):
    with pytest.raises(ConfigError, match="--normalize: expected MEAN,STD, or the means of all channels"):
        parse_normalize(text)
