from pathlib import Path

import pytest

from simplenet import atomic
from simplenet.atomic import atomic_write


@pytest.fixture(params=["nameless", "hidden"], autouse=True)
def temporary(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test with a file that has no name until it is whole, and as on a file system that has none of those."""
    if request.param == "hidden":
        monkeypatch.setattr(atomic, "_open_nameless", lambda folder: None)
    return request.param


def names_in(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


def test_at_most_a_hidden_file_is_seen_while_it_is_written(tmp_path, temporary):
    with atomic_write(tmp_path / "file"):
        seen = names_in(tmp_path)
    if temporary == "hidden" or seen:
        assert [(name[:6], name[-4:]) for name in seen] == [(".file.", ".tmp")]


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError), atomic_write(tmp_path / "file" / "inner"):
        pytest.fail("it was opened")


def test_the_file_appears_whole_with_the_usual_permissions(tmp_path):
    target = tmp_path / "new" / "file"
    with atomic_write(target) as file:
        file.write(b"whole")
        assert not target.exists()
    (tmp_path / "plain").touch()
    assert target.read_bytes() == b"whole"
    assert target.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert names_in(target.parent) == ["file"]


def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path):
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_write(target) as file:
        file.write(b"ne")
        raise KeyboardInterrupt
    assert target.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_an_existing_file_is_replaced_only_if_asked(tmp_path, overwrite):
    target = tmp_path / "file"
    target.write_bytes(b"old")
    try:
        with atomic_write(target, overwrite=overwrite) as file:
            file.write(b"new")
    except FileExistsError:
        assert not overwrite
    assert target.read_bytes() == (b"new" if overwrite else b"old")
    assert names_in(tmp_path) == ["file"]
