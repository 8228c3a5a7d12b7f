"""Reads a pickle, protocols 0 to 5, without importing or calling anything that it names.

What an opcode would import or call goes to a `Builder`, which knows the few names that have a checked function of ours
and makes a `StandIn` for every other.
"""

from struct import error as struct_error
from typing import Any

from simplenet.checkpoint.reading.building import Builder
from simplenet.checkpoint.reading.calls import CALLS
from simplenet.checkpoint.reading.containers import CONTAINERS
from simplenet.checkpoint.reading.literals import LITERALS, Literal, Python2Text
from simplenet.checkpoint.reading.refusal import EndsTooEarly, Refused
from simplenet.checkpoint.reading.stack import Opcode, Stack


class PickleMachine(Stack):
    """Runs one pickle inside `data`; afterwards `at` is where it ends.

    Example:
        >>> import pickle
        >>> PickleMachine(pickle.dumps({"epoch": 3}), Builder()).run()
        {'epoch': 3}
        >>> attack = chr(10).join(["cos", "system", "(S'echo hello'", "tR."])
        >>> PickleMachine(attack.encode(), Builder()).run()
        <StandIn 'os.system'>
    """

    def __init__(self, data: bytes, builder: Builder) -> None:
        super().__init__(data, builder)
        self.at = 0

    def run(self, at: int = 0) -> Any:
        """The object of the pickle that begins at `at`.

        Raises:
            EndsTooEarly: the data ends before the pickle does.
            Refused: the pickle is damaged, or asks for more than a checkpoint can need.
        """
        data, opcodes, budget = self.data, _OPCODES, self.builder.opcodes
        try:
            for count in range(budget.left + 1):
                self.at = at
                code = data[at]
                if code == _STOP:
                    self.at = at + 1
                    budget.spend(count)
                    return self.stack.pop()
                at = opcodes[code](self, at + 1)
        except (IndexError, struct_error) as error:
            if self.at + _LONGEST_NUMBER >= len(data):  # whether or not the stack was empty as well
                raise EndsTooEarly(f"pickle, byte {self.at}: expected more of it, found the end of the data") from error
            raise Refused(f"pickle, byte {self.at}: expected an object to work on, found none") from error
        except KeyError as error:
            raise Refused(f"pickle, byte {self.at}: refers to an object that it does not hold") from error
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise Refused(f"pickle, byte {self.at}: damaged: {error or type(error).__name__}") from error
        raise Refused(f"pickle: expected at most {budget.limit} opcodes, found more")


def _literal(read: Literal) -> Opcode:
    def run(machine: Stack, at: int) -> int:
        value, at = read(machine.data, at)
        machine.stack.append(value)
        return at

    return run


def _python2(read: Literal) -> Opcode:
    """A string of Python 2, which takes far more memory than bytes of the file if it is not ASCII."""

    def run(machine: Stack, at: int) -> int:
        value, at = read(machine.data, at)
        if type(value) is Python2Text:
            machine.builder.objects.spend(_PYTHON2_TEXT)
        machine.stack.append(value)
        return at

    return run


def _unknown(machine: Stack, at: int) -> int:
    raise Refused(f"pickle, byte {at - 1}: expected an opcode, found {machine.data[at - 1]}")


_STOP = ord(".")
_LONGEST_NUMBER = 8  # bytes of an opcode's number
_PYTHON2_TEXT = 4  # objects: the text, its bytes and where it has them
_PYTHON2 = (b"S", b"T", b"U")
_READERS = {code: (_python2 if code in _PYTHON2 else _literal)(read) for code, read in LITERALS.items()}
_KNOWN = {**CONTAINERS, **CALLS, **_READERS}
_OPCODES = [_KNOWN.get(bytes([code]), _unknown) for code in range(256)]
