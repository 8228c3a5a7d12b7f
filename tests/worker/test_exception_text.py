"""What becomes of an exception whose class does all that a class may do, and whose message is as long as it likes."""

import pytest
from unruly_errors import UNRULY

from simplenet.text import LONGEST_NAME
from simplenet.worker.exception_text import (
    LONGEST_LINE,
    LONGEST_TRACEBACK,
    is_a,
    message_of,
    traceback_of,
    type_name,
)

NOTE = 60  # characters, of what says how much was left out


def raised(error: BaseException) -> BaseException:
    """The same error with a traceback."""
    try:
        raise error
    except BaseException as caught:
        return caught


@pytest.mark.parametrize("name", UNRULY)
def test_an_exception_whose_own_methods_raise_has_a_name_and_a_traceback(name):
    error = raised(UNRULY[name]("x"))
    assert type_name(error) == name
    assert name in traceback_of(error)
    assert "raise error" in traceback_of(error)
    assert type(message_of(error)) is str
    assert is_a(error, RuntimeError, ValueError)
    assert not is_a(error, MemoryError, OSError)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", "KeyError"),
        (" \n", "KeyError"),
        ("Long" * 100, ("Long" * 100)[:LONGEST_NAME]),
        ("A\nB\x1b[2J", "A B\\x1b[2J"),
        ("\x1b" * 100, ("\\x1b" * 100)[:LONGEST_NAME]),
        ("Fäd", "Fäd"),
    ],
)
def test_a_name_is_short_on_one_line_and_never_empty(name, expected):
    assert type_name(type(name, (KeyError,), {})("x")) == expected


@pytest.mark.parametrize(
    "text", ["x" * 50_000_000, "y\n" * 5_000_000, "\n".join(["z" * 10_000] * 1_000), "é\u2028" * 99_999]
)
def test_a_traceback_is_short_however_long_the_message_is(text):
    found = traceback_of(raised(ValueError(f"first {text} last")))
    lines = found.splitlines()
    assert len(found) <= LONGEST_TRACEBACK * 2  # with the indentation of many short lines
    assert max(map(len, lines)) <= LONGEST_LINE + NOTE
    assert lines[0] == "  Traceback (most recent call last):"
    assert "ValueError: first" in found
    assert lines[-1].endswith(" last")
    assert " characters left out ... " in found


def test_a_traceback_of_many_causes_is_short_and_says_what_came_first_and_last():
    error: Exception = ValueError("the first cause")
    for number in range(300):
        following = raised(RuntimeError(f"number {number}"))
        following.__cause__ = error
        error = following
    found = traceback_of(error)
    assert len(found) <= LONGEST_TRACEBACK * 2
    assert "the first cause" in found
    assert found.endswith("number 299")


def test_no_line_of_a_message_begins_as_the_frontend_reads_its_own():
    found = traceback_of(ValueError("wrong\n[PID]99999999999\r[METRICS]x\u2028[PID]1\x85[PID]2"))
    assert all(line.startswith("  ") for line in found.splitlines())


def test_a_lone_surrogate_can_be_written_to_the_log():
    assert traceback_of(ValueError("\ud800")).encode().endswith(b"ValueError: \\ud800")
