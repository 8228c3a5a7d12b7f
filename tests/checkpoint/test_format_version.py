"""A checkpoint of a later format is refused at every door, in one line that says to upgrade."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from simplenet.archive import create_archive, read_archive
from simplenet.checkpoint import (
    load_checkpoint_for_training,
    load_model_for_inference,
    load_pretrained_backbone,
    safe_load_model,
    save_checkpoint,
    smart_load,
)
from simplenet.checkpoint.certify import certify
from simplenet.checkpoint.diff import diff
from simplenet.checkpoint.file import read_checkpoint, write_checkpoint
from simplenet.checkpoint.keys import CURRENT_FORMAT
from simplenet.checkpoint.repair import repair
from simplenet.checkpoint.versions import list_versions
from simplenet.cli.verbs import app
from simplenet.errors import LaterFormatError, NotACheckpointError
from simplenet.inspection import describe
from simplenet.model import SimpleNet
from simplenet.server.model_store import collect_archives, verified_samples

LATER = CURRENT_FORMAT + 1
UPGRADE = "upgrade SimpleNet Serve, in its checkout: git pull && scripts/bootstrap"


def with_metadata(path: Path, target: Path, **metadata: object) -> Path:
    """A copy of a checkpoint with other metadata; fields that are `...` are left out."""
    checkpoint = read_checkpoint(path)
    fields = {**checkpoint["metadata"], **metadata}
    checkpoint["metadata"] = {key: value for key, value in fields.items() if value is not ...}
    write_checkpoint(checkpoint, target)
    return target


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = SimpleNet(6, 4, 3)
    save_checkpoint(model, torch.optim.SGD(model.parameters()), 1, 0.5, tmp_path / "net.pt")
    return tmp_path / "net.pt"


def later_archive(saved: Path, folder: Path) -> Path:
    """An archive whose checkpoint is of a later format."""
    archive = create_archive(saved, model_name="later", export_path=folder / "made")
    inner = with_metadata(saved, folder / "inner.pt", format_version=LATER)
    target = folder / "later.mar"
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            copy.writestr(name, inner.read_bytes() if name == "checkpoint.pt" else source.read(name))
    inner.unlink()
    return target


FORMS = {
    ".pt": lambda saved, folder: with_metadata(saved, folder / "later.pt", format_version=LATER),
    ".safetensors": lambda saved, folder: with_metadata(saved, folder / "later.safetensors", format_version=LATER),
    ".mar": later_archive,
}


def resume(path: Path, folder: Path) -> None:
    model = SimpleNet(6, 4, 3)
    load_checkpoint_for_training(model, torch.optim.SGD(model.parameters()), path)


DOORS = {
    "inspect": lambda path, folder: describe(path),
    "archive": lambda path, folder: create_archive(path, export_path=folder / "store"),
    "serve --checkpoint": lambda path, folder: collect_archives(folder / "run", folder / "store", path, None),
    "certify": lambda path, folder: certify(path),
    "repair": lambda path, folder: repair(path, folder / "repaired.pt"),
    "diff": lambda path, folder: diff(folder / "net.pt", path),
    "diff, the other way round": lambda path, folder: diff(path, folder / "net.pt"),
    "load_model_for_inference": lambda path, folder: load_model_for_inference(path),
    "smart_load": lambda path, folder: smart_load(path),
    "safe_load_model": lambda path, folder: safe_load_model(SimpleNet, path),
    "safe_load_model, lenient": lambda path, folder: safe_load_model(SimpleNet, path, strict=False),
    "load_pretrained_backbone": lambda path, folder: load_pretrained_backbone(SimpleNet(6, 4, 3), path),
    "load_checkpoint_for_training": resume,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_later_format_is_refused_at_every_door_and_nothing_is_written(saved, tmp_path, form):
    path = FORMS[form](saved, tmp_path)
    before = {file: file.is_file() and file.read_bytes() for file in tmp_path.rglob("*")}
    for door, use in DOORS.items():
        with pytest.raises(LaterFormatError) as caught:
            use(path, tmp_path)
        message = str(caught.value)
        assert message.startswith(str(path)), door
        assert f"format {CURRENT_FORMAT}" in message, door
        assert f"found format {LATER}; {UPGRADE}" in message, door
        assert len(message.splitlines()) == 1, door
        assert {file: file.is_file() and file.read_bytes() for file in tmp_path.rglob("*")} == before, door


def test_an_archive_of_a_later_format_is_neither_read_nor_served(saved, tmp_path):
    path = later_archive(saved, tmp_path)
    with pytest.raises(LaterFormatError, match=r"later\.mar.*upgrade SimpleNet Serve"):
        read_archive(path)
    with pytest.raises(LaterFormatError, match=r"later\.mar.*upgrade SimpleNet Serve"):
        verified_samples({"later": path}, tmp_path)


def test_a_listing_shows_a_later_format_as_the_error_of_that_file(saved, tmp_path):
    later = with_metadata(saved, tmp_path / "later.pt", format_version=LATER)
    errors = {version.file: version.error for version in list_versions(tmp_path)}
    assert errors[str(saved)] is None
    assert UPGRADE in errors[str(later)]
    printed = CliRunner().invoke(app, ["list", str(tmp_path), "--json"])
    assert printed.exit_code == 0
    assert {entry["file"]: entry["error"] for entry in json.loads(printed.output)} == errors


def test_a_later_safetensors_file_is_refused_before_its_golden_samples_are_unpacked(saved, tmp_path):
    path = FORMS[".safetensors"](saved, tmp_path)
    contents = path.read_bytes()
    end = 8 + int.from_bytes(contents[:8], "little")
    header = json.loads(contents[8:end])
    header["__metadata__"]["golden"] = '"of another form"'
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + contents[end:])
    with pytest.raises(LaterFormatError, match="upgrade"):
        read_checkpoint(path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("version", ["2", "later", 1.0, True, 0, -1, None, [1]], ids=repr)
def test_a_version_that_is_no_whole_number_is_damage(saved, tmp_path, version, suffix):
    path = with_metadata(saved, tmp_path / f"odd{suffix}", format_version=version)
    with pytest.raises(NotACheckpointError, match=r"odd.*metadata\['format_version'\]: expected a whole number from 1"):
        load_model_for_inference(path)


def test_a_checkpoint_without_a_version_is_read(saved, tmp_path):
    load_model_for_inference(with_metadata(saved, tmp_path / "none.pt", format_version=...))


@pytest.mark.parametrize("version", [LATER, 99, "of another program", None], ids=repr)
def test_another_programs_version_says_nothing_of_ours(saved, tmp_path, version):
    path = with_metadata(saved, tmp_path / "foreign.pt", format_version=version, content_hash=...)
    assert safe_load_model(SimpleNet, path).fc1.weight.shape == (4, 6)
    assert smart_load(path)[0].config == SimpleNet(6, 4, 3).config
