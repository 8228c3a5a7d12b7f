"""The input and output of a model, as far as requests and responses depend on them."""

import math
from dataclasses import dataclass
from functools import cached_property

GREY, RGB = 1, 3  # channels of an image


@dataclass(frozen=True)
class ModelSpec:
    """The numbers in a row, the label of each class, and the shape that one row has before the network.

    Example:
        >>> digits = ModelSpec(input_size=784, classes=tuple("0123456789"))
        >>> digits.side, digits.row
        (28, '784 numbers or 28x28')
        >>> ModelSpec(input_size=3, classes=("cat", "dog")).row
        '3 numbers'
        >>> photos = ModelSpec(input_size=3072, classes=("cat", "dog"), input_shape=(3, 32, 32))
        >>> photos.image, photos.side, photos.row
        ((3, 32, 32), None, '3072 numbers or 3x32x32')
    """

    input_size: int
    classes: tuple[str, ...]
    input_shape: tuple[int, ...] | None = None  # None for flat rows; of an image, channels come first

    @cached_property
    def image(self) -> tuple[int, int, int] | None:
        """Channels (1 is grey, 3 is RGB), height and width if a row is an image, else None.

        Flat rows are a grey image if their size is a square.
        """
        shape = self.input_shape
        if shape is None or len(shape) == 1:
            side = math.isqrt(self.input_size)
            return (GREY, side, side) if side * side == self.input_size else None
        if len(shape) == 2:
            return (GREY, *shape)
        return shape if len(shape) == 3 and shape[0] in (GREY, RGB) else None

    @cached_property
    def side(self) -> int | None:
        """Pixels along the edge if a row is a square grey image, else None."""
        channels, height, width = self.image or (0, 0, 0)
        return height if channels == GREY and height == width else None

    @cached_property
    def row_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes other than flat that a row may have in a request."""
        shapes = [self.input_shape] if self.input_shape and len(self.input_shape) > 1 else []
        if self.image and self.image[0] == GREY:
            shapes.append(self.image[1:])
        return tuple(dict.fromkeys(shapes))

    @cached_property
    def row(self) -> str:
        """How a message describes one row."""
        forms = [f"{self.input_size} numbers", *("x".join(map(str, shape)) for shape in self.row_shapes)]
        return " or ".join(filter(None, (", ".join(forms[:-1]), forms[-1])))
