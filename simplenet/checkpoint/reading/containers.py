"""The opcodes that move what is on the stack: marks, containers and the memo.

Nothing here copies or walks through what was already made, so a pickle of nested references costs as much as its
opcodes.
"""

from collections.abc import Callable
from itertools import islice
from struct import Struct
from typing import Any

from simplenet.checkpoint.reading.hashing import checked_key
from simplenet.checkpoint.reading.literals import number, text_line
from simplenet.checkpoint.reading.refusal import EndsTooEarly, Refused
from simplenet.checkpoint.reading.stack import Opcode, Stack
from simplenet.checkpoint.reading.stand_in import StandIn

MOST_MARKS = 10_000  # open at a time
MOST_REMEMBERED = 4_000_000  # objects in the memo, of some 100 bytes each for one byte of the pickle
_NEWEST_PROTOCOL = 5
_SET = 216  # bytes that an empty one takes, for one byte of the pickle
_UINT4, _UINT8 = Struct("<I"), Struct("<Q")


def _protocol(machine: Stack, at: int) -> int:
    if machine.data[at] > _NEWEST_PROTOCOL:
        raise Refused(f"pickle: expected protocol {_NEWEST_PROTOCOL} or older, found {machine.data[at]}")
    return at + 1


def _frame(machine: Stack, at: int) -> int:
    length = _UINT8.unpack_from(machine.data, at)[0]
    at += 8
    if length > len(machine.data) - at:
        raise EndsTooEarly(f"pickle, byte {at}: expected {length} more bytes, found {len(machine.data) - at}")
    return at


def _mark(machine: Stack, at: int) -> int:
    if len(machine.marked) >= MOST_MARKS:
        raise Refused(f"pickle, byte {at}: expected at most {MOST_MARKS} open marks, found more")
    machine.marked.append(machine.stack)
    machine.stack = []
    return at


def _pop(machine: Stack, at: int) -> int:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.since_mark()
    return at


def _pop_mark(machine: Stack, at: int) -> int:
    machine.since_mark()
    return at


def _dup(machine: Stack, at: int) -> int:
    machine.stack.append(machine.stack[-1])
    return at


def _new(make: Callable[[], Any]) -> Opcode:
    def run(machine: Stack, at: int) -> int:
        machine.builder.objects.spend(1)
        machine.stack.append(make())
        return at

    return run


def _empty_tuple(machine: Stack, at: int) -> int:
    machine.stack.append(())  # there is one for all
    return at


def _empty_set(machine: Stack, at: int) -> int:
    machine.builder.budget.spend(_SET)
    machine.builder.objects.spend(1)
    machine.stack.append(set())
    return at


def _tuple(machine: Stack, at: int) -> int:
    items = machine.since_mark()
    machine.builder.objects.spend(1)
    machine.stack.append(tuple(items))
    return at


def _short_tuple(size: int) -> Opcode:
    def run(machine: Stack, at: int) -> int:
        stack = machine.stack
        if len(stack) < size:
            raise IndexError
        machine.builder.objects.spend(1)
        stack[-size:] = [tuple(stack[-size:])]
        return at

    return run


def _list(machine: Stack, at: int) -> int:
    items = machine.since_mark()
    machine.builder.objects.spend(1)
    machine.stack.append(items)
    return at


def _dict(machine: Stack, at: int) -> int:
    items = machine.since_mark()
    machine.builder.objects.spend(1)
    made: dict[Any, Any] = {}
    _fill(made, items)
    machine.stack.append(made)
    return at


def _frozenset(machine: Stack, at: int) -> int:
    items = machine.since_mark()
    machine.builder.budget.spend(_SET)
    machine.builder.objects.spend(1)
    machine.stack.append(frozenset(map(checked_key, items)))
    return at


def _fill(target: dict[Any, Any], items: list[Any]) -> None:
    if len(items) % 2:
        raise Refused("pickle: expected keys and values in pairs, found an odd number")
    for key, value in zip(islice(items, 0, None, 2), islice(items, 1, None, 2), strict=True):
        target[key if type(key) is str else checked_key(key)] = value


def _set_items(machine: Stack, at: int) -> int:
    items = machine.since_mark()
    target = machine.stack[-1]
    if isinstance(target, StandIn):
        target = target.entries
    elif type(target) is not dict:
        raise Refused(f"pickle, byte {at}: expected a dict to fill, found {type(target).__name__}")
    _fill(target, items)
    return at


def _set_item(machine: Stack, at: int) -> int:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.marked.append(machine.stack)
    machine.stack = [key, value]
    return _set_items(machine, at)


def _appends(machine: Stack, at: int) -> int:
    items = machine.since_mark()
    target = machine.stack[-1]
    if isinstance(target, StandIn):
        target = target.items
    elif type(target) is not list:
        raise Refused(f"pickle, byte {at}: expected a list to fill, found {type(target).__name__}")
    target.extend(items)
    return at


def _append(machine: Stack, at: int) -> int:
    item = machine.stack.pop()
    machine.marked.append(machine.stack)
    machine.stack = [item]
    return _appends(machine, at)


def _add_items(machine: Stack, at: int) -> int:
    items = machine.since_mark()
    target = machine.stack[-1]
    if isinstance(target, StandIn):
        target.items.extend(items)
    elif type(target) is set:
        target.update(map(checked_key, items))
    else:
        raise Refused(f"pickle, byte {at}: expected a set to fill, found {type(target).__name__}")
    return at


def _get(machine: Stack, at: int) -> int:
    machine.stack.append(machine.memo[machine.data[at]])
    return at + 1


def _long_get(machine: Stack, at: int) -> int:
    machine.stack.append(machine.memo[_UINT4.unpack_from(machine.data, at)[0]])
    return at + 4


def _text_get(machine: Stack, at: int) -> int:
    text, at = text_line(machine.data, at)
    machine.stack.append(machine.memo[number(text.encode())])
    return at


def _put(machine: Stack, at: int) -> int:
    machine.memo[machine.data[at]] = machine.stack[-1]
    return at + 1


def _long_put(machine: Stack, at: int) -> int:
    _remember(machine, _UINT4.unpack_from(machine.data, at)[0])
    return at + 4


def _text_put(machine: Stack, at: int) -> int:
    text, at = text_line(machine.data, at)
    _remember(machine, number(text.encode()))
    return at


def _memoize(machine: Stack, at: int) -> int:
    _remember(machine, len(machine.memo))
    return at


def _remember(machine: Stack, key: int) -> None:
    memo = machine.memo
    if len(memo) >= MOST_REMEMBERED:
        raise Refused(f"pickle: expected at most {MOST_REMEMBERED} objects in its memo, found more")
    memo[key] = machine.stack[-1]


CONTAINERS: dict[bytes, Opcode] = {
    b"\x80": _protocol,
    b"\x95": _frame,
    b"(": _mark,
    b"0": _pop,
    b"1": _pop_mark,
    b"2": _dup,
    b")": _empty_tuple,
    b"]": _new(list),
    b"}": _new(dict),
    b"\x8f": _empty_set,
    b"t": _tuple,
    b"\x85": _short_tuple(1),
    b"\x86": _short_tuple(2),
    b"\x87": _short_tuple(3),
    b"l": _list,
    b"d": _dict,
    b"\x91": _frozenset,
    b"s": _set_item,
    b"u": _set_items,
    b"a": _append,
    b"e": _appends,
    b"\x90": _add_items,
    b"h": _get,
    b"j": _long_get,
    b"g": _text_get,
    b"q": _put,
    b"r": _long_put,
    b"p": _text_put,
    b"\x94": _memoize,
}
