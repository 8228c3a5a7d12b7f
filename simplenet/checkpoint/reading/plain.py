"""The containers and plain values of Python's library that a pickle may call for."""

from collections.abc import Iterable
from typing import Any

from simplenet.checkpoint.reading.building import Builder, Rebuild
from simplenet.checkpoint.reading.hashing import checked_key
from simplenet.checkpoint.reading.literals import Python2Text
from simplenet.checkpoint.reading.refusal import Unfit
from simplenet.checkpoint.reading.stand_in import Global, StandIn

_ENTRY = 100  # bytes that an entry of a dict or set takes, roughly
_ENCODINGS = ("latin1", "latin-1", "ascii", "utf-8", "utf8")


def _members(builder: Builder, args: tuple[Any, ...]) -> Any:
    """The list or tuple that a container is made from; its copy is paid for."""
    if not args:
        return ()
    if len(args) != 1 or type(args[0]) not in (list, tuple, set, frozenset, dict):
        raise Unfit
    builder.budget.spend(_ENTRY * len(args[0]))
    return args[0]


def _set(builder: Builder, args: tuple[Any, ...]) -> set[Any]:
    return set(map(checked_key, _members(builder, args)))


def _frozenset(builder: Builder, args: tuple[Any, ...]) -> frozenset[Any]:
    return frozenset(map(checked_key, _members(builder, args)))


def _list(builder: Builder, args: tuple[Any, ...]) -> list[Any]:
    return list(_members(builder, args))


def _tuple(builder: Builder, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_members(builder, args))


def _dict(builder: Builder, args: tuple[Any, ...]) -> dict[Any, Any]:
    """Also an OrderedDict or Counter: a plain dict keeps the order."""
    members = _members(builder, args)
    if type(members) is dict:
        return dict(members)
    return dict(_pairs(members))


def _pairs(members: Any) -> Iterable[tuple[Any, Any]]:
    for pair in members:
        if type(pair) not in (list, tuple) or len(pair) != 2:
            raise Unfit
        yield checked_key(pair[0]), pair[1]


def _default_dict(builder: Builder, args: tuple[Any, ...]) -> dict[Any, Any]:
    return _dict(builder, args[1:2])  # without the factory


def _deque(builder: Builder, args: tuple[Any, ...]) -> list[Any]:
    return list(_members(builder, args[:1]))  # without its largest length


def _raw(args: tuple[Any, ...]) -> bytes:
    """The bytes in the arguments of `bytes` or `bytearray`: none, bytes, or text and its encoding."""
    match args:
        case ():
            return b""
        case (bytes() | bytearray() as raw,):
            return bytes(raw)
        case (Python2Text() as text,):
            return text.raw
        case (str() as text,) | (str() as text, "latin-1" | "latin1"):
            return text.encode("latin-1")
        case _:
            raise Unfit


def _bytes(builder: Builder, args: tuple[Any, ...]) -> bytes:
    builder.budget.spend(sum(len(arg) for arg in args[:1] if isinstance(arg, (bytearray, str))))
    return _raw(args)


def _bytearray(builder: Builder, args: tuple[Any, ...]) -> bytearray:
    builder.budget.spend(sum(len(arg) for arg in args[:1] if isinstance(arg, (bytes, bytearray, str))))
    return bytearray(_raw(args))


def _encode(builder: Builder, args: tuple[Any, ...]) -> bytes:
    """`_codecs.encode`: how protocols 0 to 2 write bytes."""
    if len(args) not in (1, 2) or not isinstance(args[0], str) or (args[1:] and args[1] not in _ENCODINGS):
        raise Unfit
    builder.budget.spend(len(args[0]))
    return args[0].encode(args[1] if args[1:] else "utf-8")


def _number(kind: type) -> Rebuild:
    """`int`, `float` or `bool` of a number; text is none."""

    def rebuild(builder: Builder, args: tuple[Any, ...]) -> Any:
        if len(args) > 1 or not all(isinstance(arg, (int, float)) for arg in args):
            raise Unfit
        return kind(*args)

    return rebuild


def _complex(builder: Builder, args: tuple[Any, ...]) -> complex:
    if len(args) > 2 or not all(isinstance(arg, (int, float)) for arg in args):
        raise Unfit
    return complex(*args)


def _text(builder: Builder, args: tuple[Any, ...]) -> str:
    """`str`, or a kind of it that is better off as one."""
    if len(args) > 1 or not all(isinstance(arg, str) for arg in args):
        raise Unfit
    return args[0] if args else ""


def _reconstructor(builder: Builder, args: tuple[Any, ...]) -> Any:
    """`copyreg._reconstructor`: how protocols 0 and 1 make an object; class, builtin base and what the base holds."""
    if len(args) != 3 or not isinstance(args[0], Global) or not isinstance(args[1], Global):
        raise Unfit
    kind, base, held = args
    made = builder.call(kind, () if held is None else (held,), {})
    if type(made) is StandIn and base.name == "dict" and type(held) is dict:
        made.args, made.entries = (), held
    elif type(made) is StandIn and base.name == "list" and type(held) is list:
        made.args, made.items = (), held
    return made


def _new_object(builder: Builder, args: tuple[Any, ...]) -> Any:
    """`copyreg.__newobj__`: a class, and what it is called with."""
    if not args or args[0] is None or not isinstance(args[0], Global) or args[0].module.startswith("copy"):
        raise Unfit
    builder.budget.spend(8 * len(args))
    return builder.call(args[0], args[1:], {})


def _new_object_with_keywords(builder: Builder, args: tuple[Any, ...]) -> Any:
    """`copyreg.__newobj_ex__`: a class, and what it is called with, also by keyword."""
    if len(args) != 3 or not isinstance(args[0], Global) or args[0].module.startswith("copy"):
        raise Unfit
    return builder.call(*args)


_BUILTINS: dict[str, Rebuild] = {
    "set": _set,
    "frozenset": _frozenset,
    "list": _list,
    "tuple": _tuple,
    "dict": _dict,
    "bytes": _bytes,
    "bytearray": _bytearray,
    "int": _number(int),
    "float": _number(float),
    "bool": _number(bool),
    "complex": _complex,
    "str": _text,
}
_COPYREG: dict[str, Rebuild] = {
    "_reconstructor": _reconstructor,
    "__newobj__": _new_object,
    "__newobj_ex__": _new_object_with_keywords,
}
PLAIN: dict[tuple[str, str], Rebuild] = {
    **{(module, name): rebuild for module in ("builtins", "__builtin__") for name, rebuild in _BUILTINS.items()},
    **{(module, name): rebuild for module in ("copyreg", "copy_reg") for name, rebuild in _COPYREG.items()},
    ("__builtin__", "long"): _number(int),
    ("__builtin__", "unicode"): _text,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): _dict,
    ("collections", "Counter"): _dict,
    ("collections", "defaultdict"): _default_dict,
    ("collections", "deque"): _deque,
    ("torch.torch_version", "TorchVersion"): _text,
}
