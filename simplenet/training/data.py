"""Reading data sets in MNIST's format: four IDX files of images and labels, plain or gzipped.

The format is described by its authors at http://yann.lecun.com/exdb/mnist/: a big-endian header (two zero bytes, the
type 0x08 for unsigned bytes, the number of dimensions, then each dimension as a 4-byte integer), then the bytes.
"""

import gzip
import math
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from simplenet.content_hash import content_hash
from simplenet.errors import DataError

UNSIGNED_BYTE = 0x08
SPLITS = {"train": "train", "test": "t10k"}
# Class names of data sets whose files have only numbers, by the letters of their folder's name.
KNOWN_CLASSES = {
    "fashionmnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    )
}


@dataclass(frozen=True)
class LabelledData:
    """A labelled data set, split into rows to train on and rows held out to test on.

    Rows are `(n, input_size)` float32, scaled to 0..1; labels are `(n,)` int64, each an index into `classes`.
    """

    name: str
    rows: torch.Tensor
    labels: torch.Tensor
    test_rows: torch.Tensor
    test_labels: torch.Tensor
    classes: tuple[str, ...]  # the name of each class

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the training rows and labels."""
        return content_hash({"rows": self.rows, "labels": self.labels})


def load_data(folder: str | os.PathLike[str], classes: Sequence[str] = (), relabel: Sequence[str] = ()) -> LabelledData:
    """Read both splits of an IDX folder.

    Args:
        folder: as for `load_split`.
        classes: the name of each class; by default those of the data set if the folder is named after Fashion-MNIST,
            else 0, 1, 2 …
        relabel: a new name for each class of the files. Classes with the same new name become one class.

    Raises:
        DataError: a file is missing or damaged, or there are fewer names than classes.

    Example:
        >>> from simplenet.paths import resource
        >>> data = load_data(resource("data/mnist"), relabel=["even", "odd"] * 5)
        >>> data.classes, data.rows.shape, data.test_rows.shape
        (('even', 'odd'), torch.Size([8000, 784]), torch.Size([1000, 784]))
    """
    rows, labels = load_split(folder, "train")
    test_rows, test_labels = load_split(folder, "test")
    if rows.shape[1] != test_rows.shape[1]:
        raise DataError(f"{folder}: expected test images of {rows.shape[1]} pixels, found {test_rows.shape[1]}")
    class_count = int(max(labels.max(), test_labels.max())) + 1
    names = relabel or classes or _known_classes(Path(folder), class_count)
    if len(names) < class_count:
        raise DataError(
            f"classes: expected a label for each of the {class_count} classes in {folder}, found {len(names)}"
        )
    if relabel:
        unique = list(dict.fromkeys(relabel))
        mapping = torch.tensor([unique.index(name) for name in relabel])
        labels, test_labels, names = mapping[labels], mapping[test_labels], unique
    return LabelledData(Path(folder).name, rows, labels, test_rows, test_labels, tuple(names))


def load_split(folder: str | os.PathLike[str], split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Read one split of an IDX folder.

    Args:
        folder: holds `<split>-images-idx3-ubyte` and `<split>-labels-idx1-ubyte`, each with or without `.gz`.
        split: `train` or `test` (whose files are called `t10k`).

    Returns:
        rows `(n, height * width)` float32 scaled to 0..1, and labels `(n,)` int64.

    Raises:
        DataError: a file is missing or damaged, or the numbers of images and labels differ.
    """
    prefix = SPLITS[split]
    images = _read_idx(_find(Path(folder), f"{prefix}-images-idx3-ubyte"), dimensions=3)
    labels = _read_idx(_find(Path(folder), f"{prefix}-labels-idx1-ubyte"), dimensions=1)
    if len(images) != len(labels):
        raise DataError(f"{folder}: {split}: expected as many labels as images ({len(images)}), found {len(labels)}")
    if not len(images):
        raise DataError(f"{folder}: {split}: expected one or more images, found none")
    rows = images.reshape(len(images), -1).astype(np.float32) / 255
    return torch.from_numpy(rows), torch.from_numpy(labels.astype(np.int64))


def _known_classes(folder: Path, count: int) -> Sequence[str]:
    """The names of the classes in a folder such as `fashion-mnist` or `FashionMNIST/raw`; their numbers if unknown."""
    for part in reversed(folder.resolve().parts[-2:]):
        names = KNOWN_CLASSES.get("".join(filter(str.isalpha, part.lower())), ())
        if len(names) == count:
            return names
    return [str(index) for index in range(count)]


def _find(folder: Path, name: str) -> Path:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise DataError(f"{folder}: expected {name} or {name}.gz, found neither")


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The array in one IDX file: uint8, with `dimensions` dimensions."""
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rb") as file:
            contents = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    header = 4 + 4 * dimensions
    if contents[:4] != bytes([0, 0, UNSIGNED_BYTE, dimensions]) or len(contents) < header:
        raise DataError(
            f"{path}: expected an IDX header 00 00 08 {dimensions:02d}, found {contents[:4].hex(' ') or 'nothing'}"
        )
    shape = struct.unpack_from(f">{dimensions}I", contents, 4)
    if len(contents) - header != math.prod(shape):
        raise DataError(f"{path}: expected {math.prod(shape)} bytes after the header, found {len(contents) - header}")
    return np.frombuffer(contents, np.uint8, offset=header).reshape(shape)
