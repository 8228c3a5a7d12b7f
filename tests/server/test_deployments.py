"""The state that survives a restart: what is live, what was before, and where the archives are."""

from dataclasses import replace
from pathlib import Path

import pytest

from simplenet.archive import create_archive
from simplenet.archive.profile import with_profile
from simplenet.errors import ServerError
from simplenet.manifest import read_manifest
from simplenet.server.file_lock import exclusive
from simplenet.server.history import History, Release, read_state, write_state
from simplenet.server.kept_archives import contents_hash, keep_copy, prune
from simplenet.server.model_store import collect_archives, is_empty
from simplenet.server.origin import read_origin


def release(version: str, folder: Path, contents: str = "c") -> Release:
    return Release(version, folder / "deployed" / f"net-{version}.mar", contents, "hash", "2026-01-02T03:04:05", 0.5)


@pytest.fixture
def store(tmp_path: Path, sample_archive: Path) -> Path:
    """A model store with one archive, and a run directory beside it."""
    (tmp_path / "run" / "models").mkdir(parents=True)
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / "simplenet.mar").write_bytes(sample_archive.read_bytes())
    return folder


def collect(store: Path, **options) -> dict[str, Path]:
    return collect_archives(store.parent / "run", store, None, options.pop("profile", None), **options)


def deploy_into(store: Path, archive: Path) -> Path:
    contents = contents_hash(archive)
    path = keep_copy(store, read_manifest(archive), contents)
    write_state(store, {"simplenet": History(Release("1.0", path, contents))})
    return path


def test_what_is_written_is_read_back_wherever_the_store_is_then(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    history = History(release("3.0", first), (release("2.0", first), release("1.0", first)), release("4.0", first))
    write_state(first, {"net": history})
    first.rename(second)
    moved = read_state(second)["net"]
    assert moved.live == release("3.0", second)
    assert [each.version for each in moved.releases()] == ["3.0", "2.0", "1.0", "4.0"]
    assert moved.previous[1].path == second / "deployed" / "net-1.0.mar"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"models": {"net": {"live": {}}}}', '{"models": {"net": 3}}'])
def test_a_garbled_state_is_one_line_with_the_remedy(store, text):
    (store / "deployed.json").write_text(text)
    with pytest.raises(ServerError, match=r"deployed\.json: expected what simplenet deploy writes, .*delete it"):
        collect(store)


def test_an_unknown_field_of_a_later_version_is_ignored(store):
    deploy_into(store, store / "simplenet.mar")
    file = store / "deployed.json"
    file.write_text(file.read_text().replace('"version": "1.0"', '"version": "1.0", "canary": 0.1'))
    assert read_state(store)["simplenet"].live.version == "1.0"


def test_going_back_twice_goes_back_two_versions(tmp_path):
    history = History(release("1.0", tmp_path)).deploy(release("2.0", tmp_path)).deploy(release("3.0", tmp_path))
    twice = history.roll_back().roll_back()
    assert (twice.live.version, twice.previous, twice.withdrawn.version) == ("1.0", (), "2.0")
    again = twice.deploy(release("2.0", tmp_path))
    assert [each.version for each in again.releases()] == ["2.0", "1.0"]


def test_so_many_previous_versions_are_kept_and_no_other_files(tmp_path):
    history = History(release("0", tmp_path))
    for version in range(1, 8):
        history = history.deploy(release(str(version), tmp_path))
    assert [each.version for each in history.releases()] == ["7", "6", "5", "4"]
    (tmp_path / "deployed").mkdir()
    for version in range(8):
        (tmp_path / "deployed" / f"net-{version}.mar").touch()
    prune(tmp_path, {"net": history}, {tmp_path / "deployed" / "net-0.mar"})
    assert sorted(file.stem for file in (tmp_path / "deployed").iterdir()) == [
        "net-0",
        "net-4",
        "net-5",
        "net-6",
        "net-7",
    ]


def test_what_was_deployed_is_a_copy_that_writing_into_the_users_file_does_not_change(store):
    user_file = store / "simplenet.mar"
    collect(store)  # links it
    (linked,) = (store / "deployed").glob("*.mar")
    assert linked.samefile(user_file)
    kept = deploy_into(store, user_file)
    assert kept == linked
    user_file.write_bytes(b"overwritten")
    assert contents_hash(kept)


def test_an_archive_that_changes_between_its_verification_and_the_copy_is_refused(store):
    with pytest.raises(ServerError, match="expected the archive that was verified, found another"):
        keep_copy(store, read_manifest(store / "simplenet.mar"), "0" * 64)
    assert not list((store / "deployed").glob("*.mar"))


def test_two_archives_of_one_checkpoint_are_the_same_and_another_profile_is_not(store, tmp_path, trained_checkpoint):
    archive = store / "simplenet.mar"
    assert contents_hash(create_archive(trained_checkpoint, export_path=tmp_path)) == (contents_hash(archive))
    with_profile(archive, "latency", tmp_path / "other.mar")
    assert contents_hash(tmp_path / "other.mar") != contents_hash(archive)


def test_a_store_serves_what_was_deployed_and_says_what_it_leaves_out(store, tmp_path):
    path = deploy_into(store, store / "simplenet.mar")
    lines: list[str] = []
    assert collect(store, say=lines.append) == {"simplenet": path}
    assert lines == []  # the user's file is what was deployed
    with_profile(path, "latency", store / "another.mar")
    assert collect(store, say=lines.append) == {"simplenet": path}
    (line,) = lines
    assert line.startswith(f"{store / 'another.mar'}: simplenet 1.0 is not served: 1.0 is deployed; make it live with")
    (store / "deployed.json").unlink()
    with pytest.raises(ServerError, match="expected one archive per model"):
        collect(store)


def test_a_deployed_archive_that_is_gone_leaves_the_users_own(store):
    deploy_into(store, store / "simplenet.mar").unlink()
    lines: list[str] = []
    assert collect(store, say=lines.append) == {"simplenet": store / "simplenet.mar"}
    assert "is gone" in lines[0]


def test_a_store_of_deployed_archives_only_is_not_empty(store):
    deploy_into(store, store / "simplenet.mar")
    (store / "simplenet.mar").unlink()
    assert not is_empty(store)
    assert list(collect(store)) == ["simplenet"]


def test_what_the_server_starts_with_is_recorded_before_its_profile_is_replaced(store):
    served = collect(store, profile="latency")["simplenet"]
    origin = read_origin(store.parent / "run")
    assert (origin.model_store, origin.profile) == (str(store), "latency")
    assert contents_hash(Path(origin.archives["simplenet"])) == origin.contents["simplenet"]
    assert contents_hash(served) != origin.contents["simplenet"]


def test_one_process_at_a_time_holds_a_lock(tmp_path):
    with (
        exclusive(tmp_path / "lock", "busy"),
        pytest.raises(ServerError, match="busy"),
        exclusive(tmp_path / "lock", "busy"),
    ):
        pass
    with exclusive(tmp_path / "lock", "busy"):
        pass


def test_a_release_of_the_same_version_takes_the_place_of_the_earlier(tmp_path):
    history = History(release("1.0", tmp_path)).deploy(release("2.0", tmp_path))
    back = history.deploy(replace(release("1.0", tmp_path), deployed="later"))
    assert (back.live.version, back.live.deployed) == ("1.0", "later")
    assert [each.version for each in back.previous] == ["2.0"]
