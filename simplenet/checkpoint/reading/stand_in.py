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

    # The three containers are made when they are first asked for: a pickle makes a stand-in with four bytes.
    __slots__ = ("_entries", "_items", "_kwargs", "args", "state")

    def __init__(
        self, module: str, name: str, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> None:
        super().__init__(module, name)
        self.args = args
        self.state: Any = None
        self._kwargs = kwargs or None
        self._entries: dict[Any, Any] | None = None
        self._items: list[Any] | None = None

    @property
    def kwargs(self) -> dict[str, Any]:
        """What it was called with by keyword."""
        if self._kwargs is None:
            self._kwargs = {}
        return self._kwargs

    @property
    def entries(self) -> dict[Any, Any]:
        """What it holds by key."""
        if self._entries is None:
            self._entries = {}
        return self._entries

    @entries.setter
    def entries(self, entries: dict[Any, Any]) -> None:
        self._entries = entries

    @property
    def items(self) -> list[Any]:
        """What it holds in order."""
        if self._items is None:
            self._items = []
        return self._items

    @items.setter
    def items(self, items: list[Any]) -> None:
        self._items = items
