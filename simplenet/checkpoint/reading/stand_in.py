"""What stands in a pickle's place for a class or function of somebody else's: its name and its data, and no code.

Nothing here is ever looked up, imported or called. Hashes and comparisons are by identity.
"""

from typing import Any

_LONGEST = 120  # characters of a name in a repr


class Global:
    """A class or function that a pickle names, not instantiated: `module` and `name`, as the file spells them.

    Example:
        >>> Global("__main__", "SimpleNet").qualified_name
        '__main__.SimpleNet'
        >>> Global("__main__", "SimpleNet")
        <Global '__main__.SimpleNet'>
    """

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name

    @property
    def qualified_name(self) -> str:
        """The module and the name, with a dot between."""
        return f"{self.module}.{self.name}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.qualified_name[:_LONGEST]!r}>"


class StandIn(Global):
    """An object whose class was not looked up: what it was made from, and what was put into it.

    Attributes:
        args: what it was called with.
        kwargs: likewise, by keyword.
        state: its attributes, mostly a dict, or None.
        entries: what it holds by key, if it is a kind of dict.
        items: what it holds in order, if it is a kind of list or set.

    Example:
        >>> config = StandIn("argparse", "Namespace")
        >>> config.state = {"hidden": 128}
        >>> config, config.state["hidden"], config.args, config.entries, config.items
        (<StandIn 'argparse.Namespace'>, 128, (), {}, [])
    """

    __slots__ = ("args", "entries", "items", "kwargs", "state")

    def __init__(
        self, module: str, name: str, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> None:
        super().__init__(module, name)
        self.args = args
        self.kwargs: dict[str, Any] = {} if kwargs is None else kwargs
        self.state: Any = None
        self.entries: dict[Any, Any] = {}
        self.items: list[Any] = []
