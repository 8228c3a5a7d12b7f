import gzip
import struct

import numpy as np
import pytest
import torch

from simplenet.errors import DataError
from simplenet.training.data import load_data, load_split

IMAGES = np.arange(3 * 2 * 4, dtype=np.uint8).reshape(3, 2, 4)
LABELS = np.array([2, 0, 1], np.uint8)
IMAGES_FILE, LABELS_FILE = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / IMAGES_FILE).write_bytes(idx(IMAGES))
    (tmp_path / LABELS_FILE).write_bytes(idx(LABELS))
    return tmp_path


def test_the_bundled_digits_are_real(digits):
    rows, labels = digits
    assert rows.shape == (1000, 784)
    assert rows.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert (rows.min(), rows.max()) == (0, 1)
    assert labels.bincount().min() > 50


@pytest.mark.parametrize("gzipped", [False, True])
def test_a_split_is_read_plain_or_gzipped(folder, gzipped):
    if gzipped:
        for file in list(folder.iterdir()):
            (folder / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()
    rows, labels = load_split(folder, "train")
    np.testing.assert_allclose(rows.numpy() * 255, IMAGES.reshape(3, 8), rtol=1e-6)
    assert labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "expected an IDX header 00 00 08 03, found nothing"),
        (b"\0\0\x08", "expected an IDX header 00 00 08 03, found 00 00 08"),
        (b"\0\0\x08\x03\0\0", "expected an IDX header 00 00 08 03"),
        (idx(LABELS), "expected an IDX header 00 00 08 03, found 00 00 08 01"),
        (b"\0\0\x0d\x03" + idx(IMAGES)[4:], "expected an IDX header 00 00 08 03, found 00 00 0d 03"),
        (idx(IMAGES)[:-1], "expected 24 bytes after the header, found 23"),
        (idx(IMAGES) + b"x", "expected 24 bytes after the header, found 25"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "expected 79228162458924105385300197375 bytes after the header, found 0"),
        (idx(IMAGES[:2]), r"train: expected as many labels as images \(2\), found 3"),
    ],
)
def test_damaged_images_are_refused(folder, contents, message):
    (folder / IMAGES_FILE).write_bytes(contents)
    with pytest.raises(DataError, match=message) as caught:
        load_split(folder, "train")
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:-12],
        lambda packed: b"plain" + packed,
        lambda packed: packed[:20] + b"\xff" * 8 + packed[28:],
    ],
)
def test_a_damaged_gzip_is_refused(folder, damage):
    (folder / IMAGES_FILE).unlink()
    (folder / f"{IMAGES_FILE}.gz").write_bytes(damage(gzip.compress(idx(IMAGES))))
    with pytest.raises(DataError, match=r"idx3-ubyte.gz: cannot be read"):
        load_split(folder, "train")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=f"expected {IMAGES_FILE} or {IMAGES_FILE}.gz, found neither"):
        load_split(tmp_path, "train")


def test_a_damaged_stream_inside_a_gzip_is_refused(folder):
    (folder / IMAGES_FILE).unlink()
    packed = gzip.compress(idx(IMAGES), mtime=0)
    (folder / f"{IMAGES_FILE}.gz").write_bytes(packed[:10] + b"\x07" + packed[11:])  # a block of an unknown kind
    with pytest.raises(DataError, match=r"idx3-ubyte.gz: cannot be read"):
        load_split(folder, "train")


def test_a_split_without_images_is_refused(folder):
    (folder / IMAGES_FILE).write_bytes(idx(IMAGES[:0]))
    (folder / LABELS_FILE).write_bytes(idx(LABELS[:0]))
    with pytest.raises(DataError, match="train: expected one or more images, found none"):
        load_split(folder, "train")


@pytest.mark.parametrize(
    ("name", "classes", "first"),
    [
        ("fashion-mnist", 10, "T-shirt/top"),
        ("FashionMNIST/raw", 10, "T-shirt/top"),
        ("mnist", 10, "0"),
        ("fashion-mnist", 3, "0"),
    ],
)
def test_a_folder_named_after_a_known_data_set_names_its_classes(tmp_path, name, classes, first):
    folder = tmp_path / name
    folder.mkdir(parents=True)
    labels = np.arange(classes, dtype=np.uint8)
    for split in ("train", "t10k"):
        (folder / f"{split}-images-idx3-ubyte").write_bytes(idx(np.zeros((classes, 2, 2), np.uint8)))
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(idx(labels))
    assert load_data(folder).classes[0] == first
    assert load_data(folder, classes=list("abcdefghij")).classes[0] == "a"
