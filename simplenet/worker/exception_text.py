"""What an exception of the user's network is called, and says: never long, and never an exception of its own.

Its class may be anything: `__str__`, `__class__` or the name of the class may raise what they like, SystemExit too.
Nothing of it is called here without a guard.
"""

from traceback import TracebackException, format_tb
from typing import Any

from simplenet.text import LONGEST_NAME, visible
from simplenet.worker import exits

LONGEST_LINE = 2_048  # characters of a line of a traceback
LONGEST_TRACEBACK = 16_384  # characters; TorchServe's frontend collects every line of a worker's output in memory
# The names and frames as Python keeps them, which no property of a class or of its metaclass can hide.
_NAME: Any = type.__dict__["__name__"]
_TRACEBACK: Any = BaseException.__dict__["__traceback__"]


def is_a(error: BaseException, *classes: type[BaseException]) -> bool:
    """Whether an exception is of one of these classes; unlike isinstance this never reads its `__class__`.

    Example:
        >>> is_a(KeyError("row"), LookupError), is_a(KeyError("row"), OSError, ValueError)
        (True, False)
    """
    return issubclass(type(error), classes)


def type_name(error: BaseException) -> str:
    """The name of an exception's type for a client: short, on one line, never empty.

    Example:
        >>> type_name(ValueError("secret"))
        'ValueError'
        >>> type_name(type("", (KeyError,), {})("secret"))
        'KeyError'
    """
    if is_a(error, exits.ProcessExitError):
        return "os._exit"
    for each in type(error).__mro__:
        name = str.__str__(_NAME.__get__(each))[:LONGEST_NAME].replace(chr(10), " ")
        if name.strip():
            return visible(name)[:LONGEST_NAME]
    return "BaseException"


def message_of(error: BaseException) -> str:
    """An exception's own message, whole; empty if there is none to be had.

    Example:
        >>> message_of(ValueError("secret"))
        'secret'
    """
    try:
        return str.__str__(str(error))
    except BaseException as second:
        exits.end_child(second)
        return ""


def traceback_of(error: BaseException) -> str:
    """The traceback for the log: indented, so that no line of a message is read as one of TorchServe's own.

    Each line, and the whole, is cut in the middle, and says by how much.

    Example:
        >>> print(traceback_of(ValueError("wrong" + chr(10) + "[METRICS]")))
          ValueError: wrong
          [METRICS]
    """
    try:
        parts = list(TracebackException(type(error), error, _TRACEBACK.__get__(error)).format())
    except BaseException as second:  # of its own methods
        exits.end_child(second)
        frames = format_tb(_TRACEBACK.__get__(error))
        last = f"{type_name(error)}, whose own methods raise {type_name(second)}"
        parts = ["Traceback (most recent call last):\n", *frames, last]
    text = "".join(_cut(part, LONGEST_TRACEBACK) for part in parts)
    lines = [_cut(line, LONGEST_LINE) for line in _cut(text, LONGEST_TRACEBACK).splitlines()]
    # Without lone surrogates, which no log can be written with.
    return "\n".join(f"  {line}" for line in lines).encode(errors="backslashreplace").decode()


def _cut(text: str, longest: int) -> str:
    """The beginning and the end of a text that is longer."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]} ... {len(text) - 2 * half} characters left out ... {text[-half:]}"
