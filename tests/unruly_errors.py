"""Exceptions whose classes do all that a class may do: pytest, too, can only hold them by name."""


class Nameless(type):
    """A metaclass that hides the names of its classes."""

    @property
    def __name__(cls):
        raise RuntimeError("no name")


class NoName(ValueError, metaclass=Nameless):
    pass


class NoClass(RuntimeError):
    @property
    def __class__(self):
        raise SystemExit(3)


class NoText(RuntimeError):
    def __str__(self):
        raise KeyError("no text")


class Leaves(RuntimeError):
    def __str__(self):
        raise SystemExit(3)


class NoTruth(RuntimeError):
    def __bool__(self):
        raise KeyboardInterrupt

    @property
    def __notes__(self):
        raise GeneratorExit


class OddText(str):
    """What `str()` of an exception may be."""

    __slots__ = ()

    def __contains__(self, _):
        raise SystemExit(3)

    def splitlines(self, keepends=False):
        raise SystemExit(3)


class Odd(RuntimeError):
    def __str__(self):
        return OddText("CUDA error: out of memory")


UNRULY: dict[str, type[BaseException]] = {
    "NoName": NoName,
    "NoClass": NoClass,
    "NoText": NoText,
    "Leaves": Leaves,
    "NoTruth": NoTruth,
    "Odd": Odd,
}
