"""Which archives are served, and a request that shows each of them working."""

import json
import os
import shutil
from zipfile import ZipFile

import pytest
from torch import nn

from simplenet.archive import Archive, create_archive, read_archive
from simplenet.checkpoint import save_for_inference
from simplenet.checkpoint.save import inference_checkpoint
from simplenet.errors import ArchiveError, ServerError
from simplenet.model import SimpleNet
from simplenet.paths import MODEL_STORE
from simplenet.server.model_store import (
    collect_archives,
    is_default,
    require_folder,
    require_writable,
    sample_request,
    verified_archive,
)


def test_the_sample_of_a_model_called_server_leaves_the_servers_record_alone(tmp_path):
    save_for_inference(SimpleNet(9, 4, 3), tmp_path / "small.pt")
    archive = create_archive(tmp_path / "small.pt", model_name="server", export_path=tmp_path / "store")
    content_type, file = sample_request(read_archive(archive), tmp_path)
    assert content_type == "application/json"
    assert file.name != "server.json"
    assert len(json.loads(file.read_bytes())["instances"][0]) == 9


def test_an_empty_store_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ServerError, match=r"file/store: expected .mar files, or a folder .* Not a directory"):
        require_writable(tmp_path / "file" / "store")


@pytest.mark.parametrize(
    ("shape", "content_type"),
    [(None, "image/png"), ((1, 28, 28), "image/png"), ((28, 28), "image/png"), ((4, 14, 14), "application/json")],
)
def test_the_sample_of_a_model_of_28_by_28_grey_pixels_is_the_digit(tmp_path, shape, content_type):
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 3))
    checkpoint = inference_checkpoint(network, model_config={"input_size": 784}, input_shape=shape)
    archive = Archive(tmp_path / "a.mar", "a", "1.0", None, {}, checkpoint)
    assert sample_request(archive, tmp_path)[0] == content_type


def told(archive, store, *, strict=False):
    """The names of what is served of a store with these, and what was said of the others."""
    said = []
    found = collect_archives(
        store / "run", store, None, None, None if strict else lambda error: said.append(str(error))
    )
    return sorted(found), said


def test_a_bad_archive_is_named_and_the_good_ones_are_served(tmp_path, sample_archive):
    shutil.copy(sample_archive, tmp_path)
    (tmp_path / "junk.mar").write_bytes(b"junk")
    with ZipFile(tmp_path / "empty.mar", "w"):
        pass
    names, said = told(sample_archive, tmp_path)
    assert names == ["simplenet"]
    assert [line.partition(": not a model archive")[0] for line in said] == [
        str(tmp_path / name) for name in ("empty.mar", "junk.mar")
    ]
    with pytest.raises(ArchiveError, match=r"empty.mar: not a model archive"):
        told(sample_archive, tmp_path, strict=True)


def test_a_store_with_no_good_archive_is_an_error(tmp_path, sample_archive):
    (tmp_path / "junk.mar").write_bytes(b"junk")
    with pytest.raises(ArchiveError, match=r"junk.mar: not a model archive"):
        told(sample_archive, tmp_path)
    (tmp_path / "more.mar").write_bytes(b"junk")
    with pytest.raises(ServerError, match="none of the 2 archives can be served"):
        told(sample_archive, tmp_path)


def test_a_model_store_that_is_not_there_is_an_error_with_what_to_do(tmp_path):
    (tmp_path / "net.mar").touch()
    for name, found in (("missing", "none"), ("net.mar", "a file")):
        with pytest.raises(
            ServerError, match=rf"{name}: expected a folder of .mar files, found {found}; correct --model"
        ):
            require_folder(tmp_path / name)
    require_folder(tmp_path)
    require_folder("s3://bucket/store")
    assert [path.name for path in tmp_path.iterdir()] == ["net.mar"]


def test_only_one_model_store_is_the_default(tmp_path, monkeypatch):
    monkeypatch.chdir(MODEL_STORE.parent)
    assert is_default(MODEL_STORE)
    assert is_default("model_store")
    assert not is_default(tmp_path / "model_store")
    assert not is_default("s3://bucket/model_store")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("", r"/store: expected a \.mar file, found a folder; name a file in it"),
        ("pipe", r"/pipe: expected a \.mar file, found no regular file"),
        (
            "model.pt",
            r"/model\.pt: expected a .*; if it is a checkpoint, pack it first: simplenet archive /.*/model\.pt",
        ),
        ("none.mar", r"/none\.mar: no such file"),
    ],
)
def test_what_is_no_archive_is_refused_as_what_it_is(tmp_path, trained_checkpoint, name, found):
    store = tmp_path / "store"
    store.mkdir()
    os.mkfifo(store / "pipe")
    (store / "model.pt").write_bytes(trained_checkpoint.read_bytes())
    with pytest.raises(ArchiveError, match=found):
        verified_archive(store / name)
