"""Plain data from files of anybody's: small, printable, and the rest by name."""

from simplenet.checkpoint.entries import plain_part
from simplenet.cli import tables
from simplenet.text import quoted, visible


def test_long_text_and_keys_that_cannot_be_printed_are_left_aside() -> None:
    escape = "\x1b[2J\x1b[1;31mfake"
    values = {"lr": 0.1, "k" * 300: 1, escape: 2, "text": "x" * 100_001, "deep": {"a": [{escape: 1}]}, "note": "a\x1b"}
    kept, others = plain_part(values, "metadata")
    assert kept == {"lr": 0.1, "note": "a\x1b"}
    assert others == ["k" * 80, "\\x1b[2J\\x1b[1;31mfake", "text", "deep"]


def test_text_repeated_by_reference_counts_as_often_as_it_is_written() -> None:
    assert plain_part({"texts": ["x" * 90_000] * 1000, "few": ["x"] * 1000}, "metadata")[1] == ["texts"]


def test_escapes_are_visible_in_messages_and_tables() -> None:
    assert visible("a\x1b[2Jb\nc\x9b\udc80") == "a\\x1b[2Jb\nc\\x9b\\udc80"
    assert quoted(["a\x1b[2J"]) == "'a\\x1b[2J'"
    assert "\x1b" not in tables.escape("[red]\x1b[2J")


def test_names_that_are_no_text_are_quoted_shortly() -> None:
    nest: tuple[object, ...] = (1,)
    for _ in range(40):
        nest = (nest, nest)
    assert len(quoted([nest] * 20)) < 1000
