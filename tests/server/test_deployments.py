"""The state that survives a restart: what is live, what was before, and where the archives are."""

import os
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from simplenet.archive import create_archive
from simplenet.archive.profile import with_profile
from simplenet.errors import ServerError
from simplenet.manifest import read_manifest
from simplenet.server.deployments import Deployments
from simplenet.server.file_lock import exclusive
from simplenet.server.history import History, Release, read_state, write_state
from simplenet.server.kept_archives import contents_hash, keep_copy, prune
from simplenet.server.model_store import collect_archives, is_empty
from simplenet.server.origin import read_origin
from simplenet.server.record import Server


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
    dropped = [tmp_path / "deployed" / f"net-{version}.mar" for version in range(1, 8)]
    prune(tmp_path, dropped, [release.path for release in history.releases()])
    left = [file.stem for file in sorted((tmp_path / "deployed").iterdir())]
    assert left == ["net-0", "net-4", "net-5", "net-6", "net-7"]  # no history named net-0: it may be the only copy


def test_what_was_deployed_is_a_copy_that_writing_into_the_users_file_does_not_change(store):
    user_file = store / "simplenet.mar"
    collect(store)  # links it
    (linked,) = (store / "deployed" / "started").glob("*.mar")
    assert linked.samefile(user_file)
    kept = deploy_into(store, user_file)
    assert not kept.samefile(user_file)
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


def deployed_twice(store: Path, folder: Path) -> list[Path]:
    """Deploy two more archives; what deploying leaves in the store, the newest last."""
    kept = []
    for number, profile in enumerate(("latency", "throughput")):
        (folder / profile).mkdir()
        file = folder / profile / "simplenet.mar"
        with_profile(store / "simplenet.mar", profile, file)
        if profile == "throughput":
            add_to(file, "notes.txt")
        kept.append(deploy_into(store, file))
        os.utime(kept[-1], (number, number))
    return kept


def add_to(archive: Path, name: str) -> None:
    with zipfile.ZipFile(archive, "a") as contents:
        contents.writestr(name, b"more")


def test_the_remedy_for_a_garbled_state_keeps_what_was_deployed_and_says_how_to_get_it_back(store, tmp_path):
    kept = deployed_twice(store, tmp_path)
    (store / "deployed.json").write_text('{"models": {"simplenet": ')
    with pytest.raises(ServerError, match="delete it") as refused:
        collect(store)
    assert str(refused.value).endswith(f"simplenet deploy ARCHIVE makes one live again, the newest is {kept[1]}")
    (store / "deployed.json").unlink()
    lines: list[str] = []
    assert collect(store, say=lines.append) == {"simplenet": store / "simplenet.mar"}
    (line,) = lines
    assert f"deployed.json is missing, so what was deployed is not served; it stays in {store / 'deployed'}" in line
    assert line.endswith(f"make simplenet 1.0 live with simplenet deploy {kept[1]}")
    assert all(file.is_file() for file in kept)
    (store / "simplenet.mar").unlink()
    with pytest.raises(ServerError, match=rf"found none; .* or copy one from {store}/deployed to {store}$"):
        collect(store)


def test_what_earlier_starts_linked_is_removed_and_what_was_deployed_is_not(store, tmp_path):
    kept = deployed_twice(store, tmp_path)
    (store / "deployed.json").unlink()
    collect(store)
    (first,) = (store / "deployed" / "started").glob("*.mar")
    (store / "simplenet.mar").unlink()
    with_profile(first, "latency", store / "other.mar")
    add_to(store / "other.mar", "another")
    collect(store)
    (second,) = (store / "deployed" / "started").glob("*.mar")
    assert second.samefile(store / "other.mar")
    assert all(file.is_file() for file in kept)


def test_only_archives_that_a_history_named_are_deleted_by_later_deployments(root, store, tmp_path):
    kept = deployed_twice(store, tmp_path)
    (store / "deployed.json").unlink()
    run_dir = root / "9000"
    (run_dir / "models").mkdir(parents=True)
    deployments = Deployments(Server(9000, 1, 0.0, ("net",), run_dir=run_dir), print)
    deployments.home = store
    first, second = (store / "deployed" / f"net-{version}.mar" for version in ("1", "2"))
    for file in (first, second):
        file.touch()
        deployments.write({"net": History(Release(file.stem, file, ""))})
    deployments.prune()
    assert sorted((store / "deployed").glob("*.mar")) == sorted([*kept, second])


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
