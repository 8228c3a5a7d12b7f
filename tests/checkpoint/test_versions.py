"""Versions: named by time and content, listed by age with their parents."""

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import orjson
import pytest
import torch
from typer.testing import CliRunner

from simplenet import save_versioned_model, storage
from simplenet.archive import create_archive
from simplenet.checkpoint import (
    inference_checkpoint,
    load_checkpoint_for_training,
    load_model_for_inference,
    load_pretrained_backbone,
    safe_load_model,
    save_checkpoint,
    save_for_inference,
    smart_load,
)
from simplenet.checkpoint.file import read_checkpoint, write_checkpoint
from simplenet.checkpoint.versions import Version, list_versions
from simplenet.cli.verbs import app
from simplenet.content_hash import content_hash
from simplenet.errors import CheckpointError, ObjectNotFoundError
from simplenet.model import SimpleNet


def nudged(model: torch.nn.Module, by: float = 1.0) -> torch.nn.Module:
    with torch.no_grad():
        next(model.parameters())[0, 0] += by
    return model


def metadata_of(path: Path | str) -> dict:
    return read_checkpoint(path)["metadata"]


def dated(path: Path, timestamp: str, **metadata: object) -> None:
    torch.manual_seed(len(path.name))
    checkpoint = inference_checkpoint(SimpleNet(6, 4, 3), metadata)
    checkpoint["metadata"]["timestamp"] = timestamp
    write_checkpoint(checkpoint, path)


def command(*arguments: str | Path) -> str:
    finished = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"}, catch_exceptions=False)
    assert finished.exit_code == 0
    return finished.output


def test_a_version_is_named_by_the_utc_time_and_the_content(model, tmp_path):
    before = datetime.now(timezone.utc).replace(microsecond=0)
    path = save_versioned_model(model=model, metadata={"accuracy": 0.9}, save_dir=str(tmp_path / "new"))
    assert isinstance(path, str)
    assert [str(file) for file in (tmp_path / "new").iterdir()] == [path]
    stamp, hash8 = re.fullmatch(r"model_(\d{8}_\d{6})_([0-9a-f]{8})\.pt", Path(path).name).groups()
    assert hash8 == content_hash(model.state_dict())[:8]
    when = datetime.strptime(stamp, "%Y%m%d_%H%M%S").replace(tzinfo=timezone.utc)
    assert timedelta() <= when - before <= timedelta(seconds=60)
    metadata = metadata_of(path)
    assert datetime.fromisoformat(metadata["timestamp"]) == when
    assert metadata["accuracy"] == 0.9
    assert "parent_hash" not in metadata
    assert torch.equal(load_model_for_inference(path).fc1.weight, model.fc1.weight)


def test_the_folder_is_models_by_default(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Path(save_versioned_model(model, {})).parent == Path("models")


def test_a_version_takes_what_save_for_inference_takes(model, tmp_path):
    rows = torch.randn(2, 6)
    checkpoint = read_checkpoint(save_versioned_model(model, None, tmp_path, classes=list("xyz"), golden_inputs=rows))
    assert checkpoint["classes"] == ["x", "y", "z"]
    assert torch.equal(checkpoint["golden"]["inputs"], rows)


def test_what_cannot_be_saved_leaves_no_file(model, tmp_path):
    with pytest.raises(CheckpointError):
        save_versioned_model(model, {"bad": object()}, tmp_path / "new")
    assert not (tmp_path / "new").exists()


LOADERS = {
    "load_model_for_inference": load_model_for_inference,
    "safe_load_model": lambda path: safe_load_model(SimpleNet, path),
    "safe_load_model, lenient": lambda path: safe_load_model(SimpleNet, path, strict=False),
    "smart_load": lambda path: smart_load(path)[0],
    "load_pretrained_backbone": lambda path: load_pretrained_backbone(SimpleNet(6, 4, 5), path),
}


@pytest.mark.parametrize("loader", LOADERS)
def test_what_came_from_a_checkpoint_names_it_as_parent(saved, tmp_path, loader):
    loaded = nudged(LOADERS[loader](saved))
    path = save_versioned_model(loaded.cpu(), {}, tmp_path)
    assert metadata_of(path)["parent_hash"] == metadata_of(saved)["content_hash"]


@pytest.mark.parametrize("wrap", [lambda bare: bare, torch.nn.DataParallel], ids=["bare", "DataParallel"])
def test_what_was_trained_on_names_its_checkpoint_as_parent(model, tmp_path, wrap):
    save_checkpoint(model, torch.optim.SGD(model.parameters()), 1, 0.5, tmp_path / "epoch.pt")
    other = wrap(SimpleNet(6, 4, 3))
    load_checkpoint_for_training(other, torch.optim.SGD(other.parameters()), tmp_path / "epoch.pt")
    save_for_inference(nudged(other), tmp_path / "next.pt")
    assert metadata_of(tmp_path / "next.pt")["parent_hash"] == metadata_of(tmp_path / "epoch.pt")["content_hash"]


def test_the_same_weights_are_no_child_and_a_given_parent_stands(saved, tmp_path):
    loaded = load_model_for_inference(saved)
    assert "parent_hash" not in metadata_of(save_versioned_model(loaded, {}, tmp_path))
    assert metadata_of(save_versioned_model(loaded, {"parent_hash": "abc"}, tmp_path))["parent_hash"] == "abc"


def test_weights_without_a_hash_are_no_parent(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "plain.pt")
    path = save_versioned_model(nudged(safe_load_model(SimpleNet, tmp_path / "plain.pt")), {}, tmp_path)
    assert "parent_hash" not in metadata_of(path)


def test_a_listing_is_by_age_with_accuracy_and_parent(tmp_path):
    dated(tmp_path / "a.pt", "2026-03-01T00:00:00+00:00", parent_hash="0123456789abcdef", accuracy=0.5)
    dated(tmp_path / "b.safetensors", "2026-01-01T02:00:00+02:00")
    dated(tmp_path / "deep" / "c.pt", "2026-02-01T00:00:00")
    (tmp_path / "notes.txt").write_text("not a checkpoint, and not called one")
    hashes = {name: metadata_of(tmp_path / name)["content_hash"] for name in ("a.pt", "b.safetensors", "deep/c.pt")}
    assert list_versions(tmp_path) == [
        Version(str(tmp_path / "b.safetensors"), "2026-01-01T00:00:00+00:00", hashes["b.safetensors"][:8], None, None),
        Version(str(tmp_path / "deep/c.pt"), "2026-02-01T00:00:00+00:00", hashes["deep/c.pt"][:8], None, None),
        Version(str(tmp_path / "a.pt"), "2026-03-01T00:00:00+00:00", hashes["a.pt"][:8], "01234567", 0.5),
    ]


def test_an_archive_is_listed_as_what_is_in_it(saved, tmp_path):
    create_archive(saved, export_path=tmp_path / "store")
    (version,) = list_versions(tmp_path / "store")
    assert version.file.endswith("simplenet.mar")
    assert (version.hash8, version.accuracy) == (metadata_of(saved)["content_hash"][:8], 0.9)


def test_a_damaged_file_is_listed_with_its_error(saved, tmp_path):
    (tmp_path / "torso.pt").write_bytes(saved.read_bytes()[:-100])
    (tmp_path / "words.mar").write_text("text")
    torch.save({"epoch": 3}, tmp_path / "other.pt")
    found = {Path(version.file).name: version for version in list_versions(tmp_path)}
    assert found.pop("first.pt").error is None
    assert set(found) == {"torso.pt", "words.mar", "other.pt"}
    for name, version in found.items():
        assert version.hash8 is version.accuracy is None
        assert len(version.error.splitlines()) == 1
        assert name in version.error
    assert "ends too early" in found["torso.pt"].error
    printed = command("list", tmp_path)
    assert all(name in printed for name in ("first.pt", "torso.pt", "words.mar", "ends too early", "0.9000"))


def test_weights_without_metadata_are_listed_by_the_files_date(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "plain.pt")
    modified = datetime.fromtimestamp((tmp_path / "plain.pt").stat().st_mtime, timezone.utc)
    assert list_versions(tmp_path) == [
        Version(str(tmp_path / "plain.pt"), modified.isoformat(timespec="seconds"), None, None, None)
    ]


def test_a_folder_that_is_not_there_is_an_error_and_an_empty_one_is_empty(tmp_path):
    assert list_versions(tmp_path) == []
    with pytest.raises(ObjectNotFoundError, match="nothing"):
        list_versions(tmp_path / "none")


def test_versions_in_a_bucket_are_saved_listed_and_compared(s3, model, saved, tmp_path):
    storage.upload(saved, "s3://models/nets/first.pt")
    storage.upload(__file__, "s3://models/nets/words.pt")
    address = save_versioned_model(nudged(load_model_for_inference(saved)), {"accuracy": 0.95}, "s3://models/nets/")
    assert re.fullmatch(r"s3://models/nets/model_\d{8}_\d{6}_[0-9a-f]{8}\.pt", address)
    listed = {entry["file"]: entry for entry in orjson.loads(command("list", "s3://models/nets", "--json"))}
    assert set(listed) == {"s3://models/nets/first.pt", "s3://models/nets/words.pt", address}
    assert listed[address]["parent8"] == listed["s3://models/nets/first.pt"]["hash8"] is not None
    assert listed[address]["accuracy"] == 0.95
    assert listed["s3://models/nets/words.pt"]["error"].startswith("s3://models/nets/words.pt: expected a checkpoint")
    found = orjson.loads(command("diff", "s3://models/nets/first.pt", address, "--json"))
    assert (found["a"], found["b"]) == ("s3://models/nets/first.pt", address)
    assert found["layers"].keys() == {"fc1.weight"}
    assert found["layers"]["fc1.weight"]["changed"] == 1 / 24
    with pytest.raises(ObjectNotFoundError, match=r"s3://models/nets/none\.pt"):
        command("diff", address, "s3://models/nets/none.pt")
    assert {path.name for path in tmp_path.iterdir()} == {"first.pt", "home"}  # no temporary folder is left
