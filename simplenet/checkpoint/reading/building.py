"""What a pickle's names become: checked functions of ours for the few that are allowed, stand-ins for every other."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from simplenet.checkpoint.reading.refusal import Budget, Refused, Unfit
from simplenet.checkpoint.reading.stand_in import Global, StandIn

_SMALLEST_BUDGET = 1 << 26
_FEW_OPCODES = 1_000_000
_FEW_OBJECTS = 1_000_000


class Allowed(Global):
    """A name that has a checked function of ours; to the caller of the reader it is a `Global` like any other."""

    __slots__ = ("rebuild",)

    def __init__(self, module: str, name: str, rebuild: "Rebuild") -> None:
        super().__init__(module, name)
        self.rebuild = rebuild


class Unfinished(StandIn):
    """An object that BUILD completes or replaces; where that fails it stays the stand-in it is."""

    __slots__ = ()

    def finish(self, builder: "Builder", state: Any) -> Any:
        """The object with its state.

        Raises:
            Unfit: the state is of another kind.
        """
        raise Unfit


class Builder:
    """Resolves a pickle's names and makes its objects; `PickleMachine` gives it what its opcodes name.

    Args:
        allowed: the names that have a function of ours.
        budget: how many bytes may be allocated beyond the file.
        opcodes: how many may be run.
        objects: how many may be made; plain values are paid for by their bytes in the file.
        device: for tensors.

    Example:
        >>> builder = Builder()
        >>> builder.call(builder.find("os", "system"), ("echo",), {})
        <StandIn 'os.system'>
    """

    def __init__(
        self,
        allowed: Mapping[tuple[str, str], Any] | None = None,
        budget: Budget | None = None,
        opcodes: Budget | None = None,
        device: torch.device | None = None,
        objects: Budget | None = None,
    ) -> None:
        self.allowed = {} if allowed is None else allowed
        self.budget = Budget(_SMALLEST_BUDGET) if budget is None else budget
        self.opcodes = Budget(_FEW_OPCODES, "opcodes") if opcodes is None else opcodes
        self.objects = Budget(_FEW_OBJECTS, "objects") if objects is None else objects
        self.device = torch.device("cpu") if device is None else device
        self.found: dict[tuple[str, str], Any] = {}
        self.checks: list[Callable[[], None]] = []  # of tensors whose numbers are read later

    def find(self, module: str, name: str) -> Any:
        """What stands for a name: an `Allowed`, a harmless constant such as a dtype, or a `Global`."""
        key = (module, name)
        if key not in self.found:
            self.objects.spend(1)
            self.found[key] = self.allowed[key] if key in self.allowed else Global(module, name)
        return self.found[key]

    def call(self, callee: Any, args: Any, kwargs: Any) -> Any:
        """The object that calling `callee` would make.

        Raises:
            Refused: `callee` is no name, or the arguments are no tuple.
        """
        self.objects.spend(1)
        if type(args) is not tuple:
            raise Refused(f"pickle: expected a tuple of arguments, found {type(args).__name__}")
        if type(kwargs) is not dict:
            raise Refused(f"pickle: expected a dict of keywords, found {type(kwargs).__name__}")
        if isinstance(callee, Allowed) and not kwargs:
            try:
                return callee.rebuild(self, args)
            except Unfit:
                return StandIn(callee.module, callee.name, args)
        if isinstance(callee, Global):
            return StandIn(callee.module, callee.name, args, kwargs)
        raise Refused(f"pickle: expected a class or function to call, found {type(callee).__name__}")

    def fill(self, target: Any, state: Any) -> Any:
        """The object with its attributes: kept by a stand-in, dropped for anything plain (an OrderedDict's, say).

        Raises:
            Refused: a class, a function or a value that has none.
        """
        if isinstance(target, Unfinished):
            try:
                return target.finish(self, state)
            except Unfit:
                target.state = state
        elif isinstance(target, StandIn):
            target.state = state
        elif isinstance(target, Global) or target is None or isinstance(target, (int, float, tuple, bytes)):
            raise Refused(f"pickle: expected an object with attributes, found {type(target).__name__}")
        return target

    def persistent(self, identity: Any) -> Any:
        """The storage that a persistent id names.

        Raises:
            Refused: this pickle has none.
        """
        raise Refused(f"pickle: expected no persistent id, found one ({type(identity).__name__})")

    def nested(self, data: bytes) -> Any:
        """What a torch file inside the pickle holds.

        Raises:
            Unfit: files are not read here.
        """
        raise Unfit


Rebuild = Callable[[Builder, tuple[Any, ...]], Any]
