"""The input and output of a model, as far as requests and responses depend on them."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ModelSpec:
    """The numbers in a row and the label of each class.

    Example:
        >>> digits = ModelSpec(input_size=784, classes=tuple("0123456789"))
        >>> digits.side, digits.row
        (28, '784 numbers or 28x28')
        >>> ModelSpec(input_size=3, classes=("cat", "dog")).row
        '3 numbers'
    """

    input_size: int
    classes: tuple[str, ...]

    @property
    def side(self) -> int | None:
        """Pixels along the edge if a row is a square image, else None."""
        side = math.isqrt(self.input_size)
        return side if side * side == self.input_size else None

    @property
    def row(self) -> str:
        """How a message describes one row."""
        return f"{self.input_size} numbers" + (f" or {self.side}x{self.side}" if self.side else "")
