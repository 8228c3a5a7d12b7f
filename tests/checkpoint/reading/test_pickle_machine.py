"""Opcodes that pickle.dumps does not write today, against pickle itself."""

import pickle
import pickletools
from typing import Any

import pytest

from simplenet.checkpoint.reading import StandIn
from simplenet.checkpoint.reading.building import Builder
from simplenet.checkpoint.reading.literals import Python2Text
from simplenet.checkpoint.reading.pickle_machine import _OPCODES, PickleMachine, _unknown
from simplenet.checkpoint.reading.refusal import Budget, Refused


def run(data: bytes) -> Any:
    return PickleMachine(data, Builder()).run()


def test_every_opcode_is_known() -> None:
    codes = {ord(opcode.code) for opcode in pickletools.opcodes} - {ord(".")}
    assert {code for code in range(256) if _OPCODES[code] is not _unknown} == codes


@pytest.mark.parametrize(
    "data",
    [
        b"I42\n.",
        b"I-42\n.",
        b"I00\n.",
        b"I01\n.",
        b"L123456789012345678901234567890L\n.",
        b"L5\n.",
        b"F1.5\n.",
        b"F-inf\n.",
        b"S'a\\n\\x41'\n.",
        b'S"it\'s"\n.',
        b"Va\\u00fc\n.",
        b"T\x03\x00\x00\x00abc.",
        b"U\x03abc.",
        b"\x80\x02\x8a\x00.",
        b"\x80\x02\x8a\x01\xff.",
        b"\x80\x02\x8b\x02\x00\x00\x00\xff\x7f.",
        b"(K\x01K\x02l.",
        b"(K\x01K\x02t.",
        b"(K\x01K\x02d.",
        b"(K\x01K\x020t.",
        b"K\x012\x86.",
        b"]K\x01a(K\x02K\x03e.",
        b"}K\x01K\x02s(K\x03K\x04u.",
        b"(K\x01(K\x02K\x031t.",
        b"K\x05p10\n0g10\n.",
        b"K\x05r\x00\x00\x01\x000j\x00\x00\x01\x00.",
        b"\x80\x04\x8f(K\x01K\x02\x90.",
        b"\x80\x04(K\x01K\x02\x91.",
        b"\x80\x05\x96\x02\x00\x00\x00\x00\x00\x00\x00ab.",
        b"\x80\x04\x8d\x02\x00\x00\x00\x00\x00\x00\x00ab.",
        b"\x80\x04\x8e\x02\x00\x00\x00\x00\x00\x00\x00ab.",
    ],
)
def test_an_opcode_does_what_it_does_in_pickle(data: bytes) -> None:
    expected = pickle.loads(data)
    assert run(data) == expected
    assert type(run(data)) is type(expected)


def test_text_of_python_2_keeps_its_bytes() -> None:
    for raw, text in (("ü".encode(), "ü"), (b"\xe9", "é")):
        found = run(b"U" + bytes([len(raw)]) + raw + b".")
        assert found == text
        assert isinstance(found, Python2Text)
        assert found.raw == raw
    assert type(run(b"U\x01a.")) is str


def test_an_integer_can_always_be_written() -> None:
    largest = b"\x80\x02\x8b\x00\x04\x00\x00" + b"\xff" * 1023 + b"\x7f."
    assert len(str(run(largest))) == 2466
    with pytest.raises(Refused, match="at most 2468 digits"):
        run(b"L" + b"1" * 2469 + b"\n.")


def test_the_memo_takes_any_number() -> None:
    assert run(b"\x80\x04K\x05r\xff\xff\xff\xff0K\x06\x940h\x01.") == 6


def test_what_is_put_into_a_stand_in_is_kept() -> None:
    found = run(b"c__main__\nA\n(K\x01tR(K\x02K\x03u" + b"(K\x04K\x05e" + b"}S'x'\nK\x06sb.")
    assert isinstance(found, StandIn)
    assert (found.args, found.entries, found.items, found.state) == ((1,), {2: 3}, [4, 5], {"x": 6})


def test_keywords_are_kept() -> None:
    found = run(b"\x80\x04c__main__\nA\nK\x01\x85}S'x'\nK\x02s\x92.")
    assert (found.args, found.kwargs) == ((1,), {"x": 2})


@pytest.mark.parametrize("key", [b"]", b"}", b"\x8f", b")]\x86", b"K\x01" * 100 + b"t"])
def test_a_key_that_is_not_plain_is_refused(key: bytes) -> None:
    with pytest.raises(Refused, match="expected a key"):
        run(b"}" + (b"(" if key.endswith(b"t") else b"") + key + b"Ns.")


@pytest.mark.parametrize(
    "made",
    [b"]", b"}", b"\x8f", b"(t", b"N\x85", b"(l", b"(d", b"(\x91", b"h\x00)R", b"h\x00)\x81", b"(ia\nb\n", b"\x82\x01"],
)
def test_objects_of_a_few_bytes_are_paid_for(made: bytes) -> None:
    def opcodes(times: int) -> bytes:
        return b"\x80\x02ca\nb\nq\x00" + made * times + b"."

    PickleMachine(opcodes(9), Builder(objects=Budget(10, "objects"))).run()
    with pytest.raises(Refused, match="at most 10 objects"):
        PickleMachine(opcodes(10 + 1), Builder(objects=Budget(10, "objects"))).run()


def test_names_and_text_of_python_2_are_paid_for() -> None:
    for data in (b"".join(b"ca%d\nb\n" % number for number in range(11)), b"U\x01\xe9" * 3):
        with pytest.raises(Refused, match="at most 10 objects"):
            PickleMachine(data + b".", Builder(objects=Budget(10, "objects"))).run()
    PickleMachine(b"U\x01a" * 1000 + b".", Builder(objects=Budget(10, "objects"))).run()


def test_the_memo_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simplenet.checkpoint.reading.containers.MOST_REMEMBERED", 10)
    for put in (b"\x94", *(b"r" + bytes([number, 0, 0, 0]) for number in range(1))):
        run(b"N" + put * 10 + b".")
    with pytest.raises(Refused, match="at most 10 objects in its memo"):
        run(b"N" + b"\x94" * 11 + b".")
    with pytest.raises(Refused, match="at most 10 objects in its memo"):
        run(b"N" + b"".join(b"p%d\n" % number for number in range(11)) + b".")
