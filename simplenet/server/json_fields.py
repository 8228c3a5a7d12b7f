"""Read a dataclass back from the JSON that it was written as, with the type of every field checked.

The files of a run directory may be damaged, or another version's: a wrong field is told where the file is read, not
where the field is used.
"""

from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from simplenet.text import shortened

T = TypeVar("T")


def from_json(kind: type[T], values: Any) -> T:
    """Make a dataclass of parsed JSON; a field that it does not have, of a later version, is ignored.

    Args:
        kind: a dataclass whose fields are numbers, texts, paths, lists, mappings, or dataclasses again.
        values: its fields; tuples are lists, and paths are texts.

    Raises:
        ValueError: a field is missing or of another type; the message is the field with what was found.

    Example:
        >>> from simplenet.server.history import Release
        >>> from_json(Release, {"version": "1.0", "path": "net.mar", "contents": 3})
        Traceback (most recent call last):
        ValueError: contents 3
    """
    if not isinstance(values, dict):
        raise ValueError(shortened(values))
    hints, found = get_type_hints(kind), {}
    for each in fields(kind):  # type: ignore[arg-type]
        if each.name in values:
            try:
                found[each.name] = _value(hints[each.name], values[each.name])
            except ValueError as error:
                raise ValueError(f"{each.name} {error}") from error
        elif each.default is MISSING and each.default_factory is MISSING:
            raise ValueError(f"no {each.name}")
    return kind(**found)


def _value(hint: Any, value: Any) -> Any:
    """The value of a field with this type hint.

    Raises:
        ValueError: it is of another type.
    """
    if get_origin(hint) is UnionType:  # of a type and None
        return None if value is None else _value(get_args(hint)[0], value)
    if is_dataclass(hint):
        return from_json(hint, value)  # type: ignore[arg-type]
    if get_origin(hint) in (tuple, dict):
        return _several(get_origin(hint), get_args(hint), value)
    if hint is Any or type(value) is hint:  # a bool is no int here
        return value
    if (hint, type(value)) in ((float, int), (Path, str)):
        return hint(value)
    raise ValueError(shortened(value))


def _several(origin: Any, inner: tuple[Any, ...], value: Any) -> Any:
    """The value of a field that is a tuple, which JSON writes as a list, or a mapping from names."""
    if origin is dict and isinstance(value, dict):
        return {name: _value(inner[1], each) for name, each in value.items()}
    if origin is tuple and isinstance(value, list):
        kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        if len(kinds) == len(value):
            return tuple(_value(one, each) for one, each in zip(kinds, value, strict=True))
    raise ValueError(shortened(value))
