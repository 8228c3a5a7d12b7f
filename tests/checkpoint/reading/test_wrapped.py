"""One checkpoint is found in what wraps it; nothing is unpacked beyond the limit, and nothing is written by name."""

import bz2
import errno
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from simplenet.checkpoint.reading import wrapped
from simplenet.checkpoint.reading.wrapped import unwrapped
from simplenet.errors import CheckpointError, NotACheckpointError, TruncatedCheckpointError

WEIGHTS = bytes(range(256)) * 20
LIMIT = 10**9


def zipped(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def tarred(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in members.items():
            item = tarfile.TarInfo(name)
            item.size = len(data)
            archive.addfile(item, io.BytesIO(data))
    return stream.getvalue()


JUNK = {"__MACOSX/._model.pt": b"x", "README": b"x", ".DS_Store": b"x", "config.json": b"{}", "train.py": b"x"}
GIVEN: dict[str, tuple[bytes, str, str]] = {
    "gzip": (gzip.compress(WEIGHTS), "m.pt.gz", "m.pt.gz!m.pt"),
    "bzip2": (bz2.compress(WEIGHTS), "m.pt.bz2", "m.pt.bz2!m.pt"),
    "xz": (lzma.compress(WEIGHTS), "a/m.pt.xz", "a/m.pt.xz!m.pt"),
    "gzip of another name": (gzip.compress(WEIGHTS), "m.pt", "m.pt!contents"),
    "tgz": (gzip.compress(WEIGHTS), "m.tgz", "m.tgz!m.tar"),
    "zip": (zipped(**{"model.pt": WEIGHTS}), "m.zip", "m.zip!model.pt"),
    "zip with junk": (zipped(**JUNK, **{"run/model.pt": WEIGHTS}), "m.zip", "m.zip!run/model.pt"),
    "zip, unknown suffix": (zipped(**{"model": WEIGHTS}), "m.zip", "m.zip!model"),
    "zip, hostile name": (zipped(**{"../../model.pt": WEIGHTS}), "m.zip", "m.zip!../../model.pt"),
    "tar": (tarred(**JUNK, **{"./model.pth": WEIGHTS}), "m.tar", "m.tar!./model.pth"),
}


@pytest.mark.parametrize("kind", GIVEN)
def test_the_one_checkpoint_is_found(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, source, expected = GIVEN[kind]
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    found = unwrapped(io.BytesIO(data), source, LIMIT)
    assert found is not None
    inner, name = found
    assert name == expected
    assert inner.read() == WEIGHTS
    assert inner.seekable()
    assert [path.name for path in tmp_path.rglob("*")] == ["here"]


def test_one_layer_is_unwrapped_at_a_time() -> None:
    first = unwrapped(io.BytesIO(gzip.compress(tarred(**{"m.pt": WEIGHTS}))), "m.tar.gz", LIMIT)
    assert first is not None
    second = unwrapped(*first, LIMIT)
    assert second is not None
    assert second[1] == "m.tar.gz!m.tar!m.pt"
    assert second[0].read() == WEIGHTS


def saved(save: Callable[[io.BytesIO], object]) -> bytes:
    stream = io.BytesIO()
    save(stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        WEIGHTS,
        saved(lambda stream: torch.save({"a": torch.ones(1)}, stream)),
        saved(lambda stream: torch.save({"a": 1}, stream, _use_new_zipfile_serialization=False)),
        saved(lambda stream: np.savez(stream, a=np.ones(1))),
        zipped(**{"MAR-INF/MANIFEST.json": b"{}", "model.pt": WEIGHTS}),
        zipped(**{"config.json": b"{}", "model.weights.h5": b"x"}),
        zipped(**{"saved_model.pb": b"x", "variables/variables.index": b"x"}),
        zipped(**{"m/archive_format": b"pt2", "m/data/sample_inputs/model.pt": WEIGHTS}),
        zipped(**{"a.x": b"1", "b.y": b"2"}),
        tarred(sys_info=b"x", pickle=b"x", storages=b"x", tensors=b"x"),
    ],
)
def test_what_is_no_container_of_one_is_left(data: bytes) -> None:
    stream = io.BytesIO(data)
    assert unwrapped(stream, "m", LIMIT) is None
    assert stream.tell() == 0


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_several_candidates_are_listed(pack: Callable[..., bytes]) -> None:
    with pytest.raises(
        NotACheckpointError, match=r"m: expected one checkpoint in it, found 2: 'a\.pt', 'b\.ckpt'; unp"
    ):
        unwrapped(io.BytesIO(pack(**{"a.pt": b"1", "b.ckpt": b"2", "c.txt": b"3"})), "m", LIMIT)


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zip", "tar"])
def test_what_ends_too_early_or_is_damaged(kind: str) -> None:
    data, source, _ = GIVEN[kind]
    cut = data[: len(data) // 2] if kind != "tar" else data[: data.index(WEIGHTS[:64]) + 700]
    with pytest.raises(TruncatedCheckpointError, match="damaged, or ends too early"):
        unwrapped(io.BytesIO(cut), source, LIMIT)


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zip"])
def test_changed_bytes_never_fail_in_another_way(kind: str) -> None:
    data, source, _ = GIVEN[kind]
    for position in range(len(data)):
        changed = data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]
        try:
            unwrapped(io.BytesIO(changed), source, LIMIT)
        except CheckpointError as error:
            assert source in str(error)


def test_the_limit_holds() -> None:
    with pytest.raises(NotACheckpointError, match=r"m\.gz!m: expected to unpack to at most 1,000 bytes"):
        unwrapped(io.BytesIO(gzip.compress(WEIGHTS)), "m.gz", 1000)


def test_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrapped, "FLOOR", 1000)
    bomb = gzip.compress(bytes(10**6))
    with pytest.raises(NotACheckpointError, match=f"at most {100 * len(bomb):,} bytes"):
        unwrapped(io.BytesIO(bomb), "m.gz", LIMIT)


def test_what_is_large_goes_to_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrapped, "FLOOR", 2**20)
    data = np.random.default_rng(0).bytes(3 * 2**20)
    found = unwrapped(io.BytesIO(lzma.compress(data, preset=0)), "m.xz", LIMIT)
    assert found is not None
    with found[0] as inner:
        assert not isinstance(inner, io.BytesIO)
        assert inner.read() == data


def test_an_encrypted_member_says_what_to_do() -> None:
    data = bytearray(zipped(**{"model.pt": WEIGHTS}))
    data[6] |= 1
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(NotACheckpointError, match=r"m\.zip!model\.pt: encrypted; unpack it with its password"):
        unwrapped(io.BytesIO(bytes(data)), "m.zip", LIMIT)


def test_links_in_a_tar_are_not_followed() -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        link = tarfile.TarInfo("model.pt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert unwrapped(stream, "m.tar", LIMIT) is None


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: io.BytesIO) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(wrapped, "FLOOR", 1000)
    monkeypatch.setattr(wrapped, "_on_disk", full)
    with pytest.raises(CheckpointError, match="is too full to unpack it"):
        unwrapped(io.BytesIO(gzip.compress(WEIGHTS)), "m.gz", LIMIT)


def test_the_weights_are_preferred_to_the_state_of_a_training() -> None:
    files = {"data": b"{}", "policy.optimizer.pth": b"x", "policy.pth": WEIGHTS, "pytorch_variables.pth": b"x"}
    found = unwrapped(io.BytesIO(zipped(**files)), "ppo.zip", LIMIT)
    assert found is not None
    assert (found[1], found[0].read()) == ("ppo.zip!policy.pth", WEIGHTS)


def test_the_state_of_a_training_alone_is_still_found() -> None:
    found = unwrapped(io.BytesIO(zipped(**{"optimizer.pt": WEIGHTS})), "run.zip", LIMIT)
    assert found is not None
    assert found[1] == "run.zip!optimizer.pt"
