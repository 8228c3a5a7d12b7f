import subprocess
import sys

import pytest

import simplenet
from simplenet import errors


def test_every_public_name_is_listed_in_order_and_can_be_imported():
    assert list(simplenet.__all__) == sorted(simplenet.__all__)
    for name in simplenet.__all__:
        assert getattr(simplenet, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = simplenet.nothing


def test_the_command_line_starts_without_torch():
    code = "import sys, simplenet.cli.verbs; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_library_outside_serving_does_not_import_torchserve():
    code = f"import sys; from simplenet import {', '.join(simplenet.__all__)}; sys.exit('ts' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_error_is_in_the_tree_that_opens_its_module():
    for name, value in vars(errors).items():
        if isinstance(value, type):
            assert issubclass(value, errors.SimpleNetError)
            assert name in (errors.__doc__ or "")


def test_a_message_of_several_lines_is_shown_as_one():
    assert str(errors.SimpleNetError("profile: found\n  a tab\r\nat line 1")) == "profile: found   a tab at line 1"
