"""Reading data sets in MNIST's format: four IDX files of images and labels, plain or gzipped.

The format is described by its makers at http://yann.lecun.com/exdb/mnist/: a big-endian header (two zero bytes, the
type 0x08 for unsigned bytes, the number of dimensions, then each dimension as a 4-byte integer), then the bytes.
"""

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from simplenet.errors import DataError

UNSIGNED_BYTE = 0x08
SPLITS = {"train": "train", "test": "t10k"}


def load_split(folder: str | os.PathLike[str], split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Read one split of an IDX folder.

    Args:
        folder: holds `<split>-images-idx3-ubyte` and `<split>-labels-idx1-ubyte`, each with or without `.gz`.
        split: `train` or `test` (whose files are called `t10k`).

    Returns:
        rows `(n, height * width)` float32 scaled to 0..1, and labels `(n,)` int64.

    Raises:
        DataError: a file is missing or damaged, or there are not as many labels as images.
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


def _find(folder: Path, name: str) -> Path:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise DataError(f"{folder}: expected {name} or {name}.gz, found neither")


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The array in one IDX file: uint8 of as many dimensions."""
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
