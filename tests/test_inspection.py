"""What cannot be trusted is refused by inspect, archive and serve alike; what can is described."""

import pickle
import random

import orjson
import pytest
import torch
from bad_requests import RunsCode
from typer.testing import CliRunner

from simplenet.archive import create_archive
from simplenet.checkpoint import save_for_inference
from simplenet.checkpoint.file import read_checkpoint, write_checkpoint
from simplenet.checkpoint.verify import require_whole
from simplenet.cli.verbs import app
from simplenet.errors import (
    ArchiveError,
    CheckpointError,
    HashMismatchError,
    NotACheckpointError,
    ShapeMismatchError,
    SimpleNetError,
)
from simplenet.inspection import describe
from simplenet.model import SimpleNet
from simplenet.server.model_store import collect_archives


def test_a_checkpoint_is_described(trained_checkpoint):
    description = describe(trained_checkpoint)
    assert (description.kind, description.parameters, description.dtype) == ("checkpoint", 203_530, "float32")
    assert description.weights["fc1.weight"] == [256, 784]
    assert description.metadata["epochs"] == 3
    assert description.golden.startswith("8 samples agree")
    assert description.archive is None
    orjson.dumps(description.to_dict())


def test_an_archive_is_described(sample_archive, trained_checkpoint):
    description, inner = describe(sample_archive), describe(trained_checkpoint)
    assert description.kind == "archive"
    assert description.archive.model_name == "simplenet"
    assert description.archive.settings["batchSize"] == 64
    assert description.metadata == inner.metadata
    assert description.golden == inner.golden


ENTRIES = [
    *(
        "file",
        "kind",
        "bytes",
        "model_config",
        "parameters",
        "dtype",
        "weights",
        "input_shape",
        "preprocessing",
        "output",
    ),
    *("classes", "metadata", "golden"),
]


def test_inspect_prints_its_entries_in_order_and_archive_only_for_archives(sample_archive, trained_checkpoint):
    for path, more in ((trained_checkpoint, []), (sample_archive, ["archive"])):
        printed = CliRunner().invoke(app, ["inspect", str(path), "--json"])
        assert printed.exit_code == 0
        entries = orjson.loads(printed.output)
        assert list(entries) == [*ENTRIES, "found", "findings", "problem", *more]
        assert (entries["file"], entries["findings"]) == (str(path), [])
    assert list(entries["archive"]) == ["model_name", "version", "model_file", "settings"]


def flipped_byte(path, good, marker):
    contents = bytearray(good.read_bytes())
    weight = read_checkpoint(good)["model_state_dict"]["fc2.weight"].numpy().tobytes()
    contents[contents.index(weight)] ^= 0x80
    path.write_bytes(contents)


def wrong_config(path, good, marker):
    sizes = {"input_size": 784, "hidden_size": 128, "num_classes": 10}
    write_checkpoint({**read_checkpoint(good), "model_config": sizes}, path)


def missing_keys(path, good, marker):
    torch.save(read_checkpoint(good)["model_state_dict"], path)


def whole_network(path, good, marker):
    torch.save(SimpleNet(), path)


def runs_code(path, good, marker):
    path.write_bytes(pickle.dumps(RunsCode(str(marker))))


def runs_code_in_a_checkpoint(path, good, marker):
    torch.save({**read_checkpoint(good), "metadata": RunsCode(str(marker))}, path)


VERBS = {
    "inspect": lambda path, folder: require_whole(str(path), describe(path).findings),
    "archive": lambda path, folder: create_archive(path, export_path=folder / "store"),
    "serve": lambda path, folder: collect_archives(folder / "run", folder / "store", path, None),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (flipped_byte, HashMismatchError),
        (wrong_config, ShapeMismatchError),
        (runs_code, NotACheckpointError),
    ],
    ids=lambda value: value.__name__,
)
def test_a_checkpoint_that_cannot_be_trusted_is_refused(tmp_path, trained_checkpoint, damage, kind, verb):
    path, marker = tmp_path / "bad.pt", tmp_path / "marker"
    damage(path, trained_checkpoint, marker)
    with pytest.raises(kind) as caught:
        VERBS[verb](path, tmp_path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["bad.pt"]  # no marker, no archive


@pytest.mark.parametrize("verb", ["archive", "serve"])
@pytest.mark.parametrize("make", [missing_keys, whole_network, runs_code_in_a_checkpoint])
def test_a_file_that_was_not_saved_whole_is_adopted_and_nothing_in_it_is_run(tmp_path, trained_checkpoint, make, verb):
    path, marker = tmp_path / "theirs.pt", tmp_path / "marker"
    make(path, trained_checkpoint, marker)
    VERBS[verb](path, tmp_path)
    assert not marker.exists()
    assert describe(path).problem is None
    assert any("content hash" in finding for finding in describe(path).findings)


@pytest.mark.parametrize(
    ("name", "contents", "kind"),
    [
        ("x.mar", b"text", ArchiveError),
        ("x.mar", b"", ArchiveError),
        ("x.pt", b"text", CheckpointError),
        ("x.pt", b"", CheckpointError),
        ("x.pt", b"PK\x05\x06" + bytes(18), CheckpointError),  # an empty zip
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, name, contents, kind):
    (tmp_path / name).write_bytes(contents)
    with pytest.raises(kind, match=name):
        describe(tmp_path / name)


@pytest.mark.parametrize("name", ["none.mar", "none.pt"])
def test_a_path_without_a_file_is_refused(tmp_path, name):
    with pytest.raises((ArchiveError, CheckpointError), match="no such file"):
        describe(tmp_path / name)


@pytest.mark.parametrize("metadata", [{}, [], 3, {"content_hash": 3}], ids=repr)
def test_metadata_without_a_hash_is_refused(tmp_path, trained_checkpoint, metadata):
    write_checkpoint({**read_checkpoint(trained_checkpoint), "metadata": metadata}, tmp_path / "x.pt")
    with pytest.raises(NotACheckpointError, match=r"no content hash.*simplenet repair"):
        require_whole("x.pt", describe(tmp_path / "x.pt").findings)


def test_weights_that_are_no_tensors_are_refused(tmp_path, trained_checkpoint):
    for weights in (3, {"fc1.weight": "text"}, [torch.zeros(1)]):
        write_checkpoint({**read_checkpoint(trained_checkpoint), "model_state_dict": weights}, tmp_path / "x.pt")
        with pytest.raises(CheckpointError):
            describe(tmp_path / "x.pt")


def damaged(contents: bytes, generator: random.Random) -> bytes:
    """Some bytes changed, cut off or left out."""
    found = bytearray(contents)
    how = generator.random()
    if how < 0.4:
        for _ in range(generator.randint(1, 4)):
            found[generator.randrange(len(found))] = generator.randrange(256)
    elif how < 0.7:
        del found[generator.randrange(len(found)) :]
    else:
        start = generator.randrange(len(found))
        del found[start : start + generator.randint(1, 9)]
    return bytes(found)


@pytest.mark.parametrize("name", ["net.pt", "net.safetensors", "net.mar", "legacy.pt"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # torch's, of a damaged legacy pickle
def test_damaged_files_are_refused_in_one_line_or_harmlessly_damaged(tmp_path, name):
    generator = random.Random(name)
    torch.manual_seed(0)
    model = SimpleNet(8, 4, 3)
    path = tmp_path / name
    save_for_inference(model, tmp_path / "net.pt")
    if name == "net.safetensors":
        save_for_inference(model, path)
    elif name == "net.mar":
        create_archive(tmp_path / "net.pt", model_name="net", export_path=tmp_path)
    elif name == "legacy.pt":
        torch.save(read_checkpoint(tmp_path / "net.pt"), path, _use_new_zipfile_serialization=False)
    contents = path.read_bytes()
    refused = 0
    for _ in range(100):
        path.unlink()
        path.write_bytes(damaged(contents, generator))
        try:
            require_whole(str(path), describe(path).findings)
        except SimpleNetError as error:
            refused += 1
            assert len(str(error).splitlines()) == 1
    assert refused > 50


@pytest.mark.parametrize(
    "make", [lambda: torch.zeros(1).expand(2**34), lambda: torch.empty(2**20, 2**20, device="meta")]
)
def test_a_tensor_that_claims_more_than_it_has_is_refused(tmp_path, trained_checkpoint, make):
    checkpoint = read_checkpoint(trained_checkpoint)
    checkpoint["model_state_dict"]["fc1.weight"] = make()
    torch.save(checkpoint, tmp_path / "x.pt")
    with pytest.raises(NotACheckpointError, match=r"expected 17179869184 elements of 4 bytes, found 4|meta tensors"):
        describe(tmp_path / "x.pt")
