"""The opcodes that would import or call something: they only ask the `Builder` for what stands in its place."""

from typing import Any

from simplenet.checkpoint.reading.building import Unfinished
from simplenet.checkpoint.reading.literals import text_line
from simplenet.checkpoint.reading.refusal import Refused
from simplenet.checkpoint.reading.stack import Opcode, Stack
from simplenet.checkpoint.reading.stand_in import Global

_RECENT = 64  # memo entries, among which is an object that was made and is being filled


def _global(machine: Stack, at: int) -> int:
    module, at = text_line(machine.data, at)
    name, at = text_line(machine.data, at)
    machine.stack.append(machine.builder.find(module, name))
    return at


def _stack_global(machine: Stack, at: int) -> int:
    name, module = machine.stack.pop(), machine.stack.pop()
    if type(name) is not str or type(module) is not str:
        raise Refused(f"pickle, byte {at}: expected a module and a name, found {type(module).__name__}")
    machine.stack.append(machine.builder.find(module, name))
    return at


def _extension(size: int) -> Opcode:
    def run(machine: Stack, at: int) -> int:
        machine.builder.objects.spend(1)
        code = int.from_bytes(machine.data[at : at + size], "little")
        machine.stack.append(Global("copyreg", f"extension {code}"))
        return at + size

    return run


def _instance(machine: Stack, at: int) -> int:
    module, at = text_line(machine.data, at)
    name, at = text_line(machine.data, at)
    args = machine.since_mark()
    machine.stack.append(machine.builder.call(machine.builder.find(module, name), tuple(args), {}))
    return at


def _object(machine: Stack, at: int) -> int:
    callee, *args = machine.since_mark() or [None]
    machine.stack.append(machine.builder.call(callee, tuple(args), {}))
    return at


def _reduce(machine: Stack, at: int) -> int:
    stack = machine.stack
    args = stack.pop()
    stack[-1] = machine.builder.call(stack[-1], args, {})
    return at


def _new_object_with_keywords(machine: Stack, at: int) -> int:
    stack = machine.stack
    kwargs, args = stack.pop(), stack.pop()
    stack[-1] = machine.builder.call(stack[-1], args, kwargs)
    return at


def _build(machine: Stack, at: int) -> int:
    state = machine.stack.pop()
    target = machine.stack[-1]
    made = machine.builder.fill(target, state)
    if made is not target and isinstance(target, Unfinished):
        machine.stack[-1] = made
        _replace_in_memo(machine.memo, target, made)
    return at


def _replace_in_memo(memo: dict[int, Any], old: Any, new: Any) -> None:
    """An object is memoised before it is filled; `new` takes its place, of which later opcodes speak."""
    recent = []
    for key in reversed(memo):
        recent.append(key)
        if len(recent) == _RECENT:
            break
    for key in recent:
        if memo[key] is old:
            memo[key] = new


def _persistent_line(machine: Stack, at: int) -> int:
    identity, at = text_line(machine.data, at)
    machine.stack.append(machine.builder.persistent(identity))
    return at


def _persistent(machine: Stack, at: int) -> int:
    machine.stack[-1] = machine.builder.persistent(machine.stack[-1])
    return at


def _out_of_band(machine: Stack, at: int) -> int:
    raise Refused(f"pickle, byte {at - 1}: expected its data in the file, found that it was stored elsewhere")


CALLS: dict[bytes, Opcode] = {
    b"c": _global,
    b"\x93": _stack_global,
    b"\x82": _extension(1),
    b"\x83": _extension(2),
    b"\x84": _extension(4),
    b"i": _instance,
    b"o": _object,
    b"R": _reduce,
    b"\x81": _reduce,  # NEWOBJ: a class and a tuple
    b"\x92": _new_object_with_keywords,
    b"b": _build,
    b"P": _persistent_line,
    b"Q": _persistent,
    b"\x97": _out_of_band,
    b"\x98": _out_of_band,
}
