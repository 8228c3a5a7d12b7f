import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest
import torch
import yaml
from own_networks import MNIST_NET, MNIST_SHAPE, written
from typer.testing import CliRunner

import simplenet
from simplenet.archive import create_archive, read_archive
from simplenet.archive.create import _TRIAL, LABELS_FILE, _stage_files
from simplenet.archive.profile import with_profile
from simplenet.checkpoint import save_for_inference
from simplenet.checkpoint.file import read_checkpoint, write_checkpoint
from simplenet.cli.verbs import app
from simplenet.errors import ArchiveError, CheckpointNotFoundError
from simplenet.inspection import describe
from simplenet.model import SimpleNet
from simplenet.server.model_store import sample_request

LIBRARY = Path(simplenet.__file__).parent
NOT_CARRIED = {"cli", "client", "server", "training"}
MANIFEST = "MAR-INF/MANIFEST.json"
CONFIG = {"input_size": 9, "hidden_size": 4, "num_classes": 3}


@pytest.fixture
def checkpoint(tmp_path):
    save_for_inference(SimpleNet(9, 4, 3), tmp_path / "small.pt")
    return tmp_path / "small.pt"


def test_an_archive_holds_handler_library_checkpoint_settings_and_labels(sample_archive, trained_checkpoint):
    with zipfile.ZipFile(sample_archive) as archive:
        names = set(archive.namelist())
        library = {
            f"simplenet/{path}": LIBRARY / path
            for path in (file.relative_to(LIBRARY) for file in LIBRARY.rglob("*.py"))
            if path.parts[0] not in NOT_CARRIED
        }
        fixed = {"simplenet_handler.py", "checkpoint.pt", "model-config.yaml", "index_to_name.json", MANIFEST}
        assert names == {*library, *fixed, "simplenet/py.typed"}
        assert all(archive.read(name) == file.read_bytes() for name, file in library.items())
        assert archive.read("checkpoint.pt") == trained_checkpoint.read_bytes()
        assert json.loads(archive.read("index_to_name.json"))["7"] == "7"


def test_an_archive_is_read_back(sample_archive):
    archive = read_archive(sample_archive)
    assert (archive.model_name, archive.version, archive.model_file) == ("simplenet", "1.0", None)
    assert archive.settings["batchSize"] == 64
    assert archive.checkpoint["classes"] == list("0123456789")


@pytest.mark.parametrize("form", [".safetensors", ".mar"])
def test_a_checkpoint_of_another_form_is_packed_as_pt(checkpoint, tmp_path, form):
    source = tmp_path / f"source{form}"
    if form == ".mar":
        create_archive(checkpoint, export_path=tmp_path / "first").rename(source)
    else:
        write_checkpoint(read_checkpoint(checkpoint), source)
    archive = read_archive(create_archive(source, export_path=tmp_path / "store"))
    expected = read_checkpoint(checkpoint)
    assert archive.checkpoint["metadata"] == expected["metadata"]
    assert torch.equal(archive.checkpoint["golden"]["logits"], expected["golden"]["logits"])
    with zipfile.ZipFile(archive.path) as contents, contents.open("checkpoint.pt") as inner:
        assert inner.read(4) == b"PK\x03\x04"  # as torch.save writes, for a stock TorchServe without safetensors
    assert describe(archive.path).golden.startswith("8 samples agree")


def test_force_replaces_an_archive_and_the_profile_is_packed(checkpoint, tmp_path):
    target = tmp_path / "net-2.b.mar"
    target.write_bytes(b"old")
    with pytest.raises(ArchiveError, match="exists already; give --force to replace it"):
        create_archive(checkpoint, model_name="net-2.b", export_path=tmp_path)
    assert target.read_bytes() == b"old"
    packed = create_archive(
        checkpoint, model_name="net-2.b", version="2.0", export_path=tmp_path, profile="latency", force=True
    )
    archive = read_archive(packed)
    assert (packed, archive.version, archive.settings["batchSize"]) == (target, "2.0", 1)


def test_two_archives_of_one_name_at_once_come_out_right_and_the_temp_folder_is_left_alone(tmp_path):
    temp = tmp_path / "tmp"
    (temp / "simplenet").mkdir(parents=True)
    (temp / "simplenet" / "mine.txt").write_text("mine")
    code = "import sys; from simplenet import create_archive; create_archive(sys.argv[1], export_path=sys.argv[2])"
    running = []
    for name, size in (("a", 5), ("b", 6)):
        save_for_inference(SimpleNet(4, size, 2), tmp_path / f"{name}.pt")
        command = [sys.executable, "-c", code, tmp_path / f"{name}.pt", tmp_path / name]
        running.append(subprocess.Popen(command, env={**os.environ, "TMPDIR": str(temp)}))
    assert [process.wait(timeout=60) for process in running] == [0, 0]
    for name, size in (("a", 5), ("b", 6)):
        archive = read_archive(tmp_path / name / "simplenet.mar")
        assert archive.checkpoint["model_config"]["hidden_size"] == size
        with zipfile.ZipFile(archive.path) as contents:
            assert contents.read("checkpoint.pt") == (tmp_path / f"{name}.pt").read_bytes()
    assert [str(file.relative_to(temp)) for file in temp.rglob("*")] == ["simplenet", "simplenet/mine.txt"]
    assert (temp / "simplenet" / "mine.txt").read_text() == "mine"


def test_an_archive_whose_library_was_edited_does_not_load(sample_archive, tmp_path):
    with zipfile.ZipFile(sample_archive) as archive:
        archive.extractall(tmp_path)
    module = tmp_path / "simplenet" / "model.py"
    source = module.read_text()
    assert source.count("self.relu(self.fc1(x))") == 1
    module.write_text(source.replace("self.relu(self.fc1(x))", "self.fc1(x)"))
    trial = subprocess.run([sys.executable, "-c", _TRIAL], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert trial.returncode == 1
    assert trial.stderr.startswith(
        "checkpoint.pt: the network gives its golden samples other logits than when it was saved"
    )
    assert len(trial.stderr.splitlines()) == 1


MODULES = {
    "net.py": "from torch import nn\nclass Net(nn.Module): ...\nclass Other: ...\n",
    "broken.py": "raise ValueError('two\\nlines')",
    "syntax.py": "def",
    "leaves.py": "import a_module_that_is_not_installed",
    "notes.txt": "no module",
    "simplenet_handler.py": "",
    "list.yaml": "- 1\n",
    "bad.yaml": "a: [1,\n  b: {",
    "many.yaml": "batchSize: many\n",
    "true.yaml": "batchSize: true\n",
    "huge.yaml": "maxBatchDelay: 2147483648\n",
    "none.yaml": "responseTimeout:\n",
    "devices.yaml": "deviceIds: [0, one]\n",
    "handler.yaml": "handler: 3\n",
    "unknown.yaml": "batchsize: 3\n",
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model_name": "../up"}, "model name: expected letters, digits, .* found '../up'"),
        ({"model_name": ""}, "model name: expected"),
        ({"model_name": "a\n"}, r"model name: expected .*found 'a\\n'"),
        ({"version": "1/2"}, "version: expected"),
        ({"profile": "fast"}, "profile: expected throughput, latency or a YAML file, found 'fast'"),
        ({"profile": "list.yaml"}, "list.yaml: expected the fields of a model-config, found list"),
        ({"profile": "bad.yaml"}, "profile: expected throughput, latency or a YAML file, found '.*bad.yaml'"),
        ({"profile": "many.yaml"}, "many.yaml: batchSize: expected a whole number, 1 or more, found 'many'"),
        ({"profile": "true.yaml"}, "batchSize: expected a whole number, 1 or more, found True"),
        ({"profile": "huge.yaml"}, "maxBatchDelay: expected a whole number, 0 or more, found 2147483648"),
        ({"profile": "none.yaml"}, "responseTimeout: expected a whole number, 1 or more, found None"),
        ({"profile": "devices.yaml"}, r"deviceIds: expected a list of GPU numbers, found \[0, 'one'\]"),
        ({"profile": "handler.yaml", "model_file": "net.py"}, "handler: expected a mapping, found 3"),
        ({"profile": "unknown.yaml"}, "batchsize: expected one of batchSize, .*startupTimeout as the name"),
        ({"model_class": "Net"}, "--model-class: expected --model-file with it"),
        ({"model_file": "net.py"}, r"net.py: expected a class '' that is an nn.Module, found \['Net'\]"),
        ({"model_file": "net.py", "model_class": "Other"}, r"expected a class 'Other' that .*found \['Net'\]"),
        ({"model_file": "none.py"}, "none.py: cannot be imported: FileNotFoundError"),
        ({"model_file": "broken.py"}, "broken.py: cannot be imported: ValueError: two lines"),
        ({"model_file": "syntax.py"}, "syntax.py: cannot be imported: SyntaxError"),
        ({"model_file": "leaves.py"}, "leaves.py: cannot be imported: ModuleNotFoundError"),
        ({"model_file": "notes.txt"}, "notes.txt: expected a Python module"),
        ({"model_file": "simplenet_handler.py", "model_class": "Net"}, "expected another name than simplenet_handler"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_made(checkpoint, tmp_path, arguments, message):
    files = tmp_path / "files"
    files.mkdir()
    for name, text in MODULES.items():
        (files / name).write_text(text)
    placed = {key: str(files / value) if (files / value).suffix and key in ("profile", "model_file") else value
              for key, value in arguments.items()}  # fmt: skip
    with pytest.raises(ArchiveError, match=message) as caught:
        create_archive(checkpoint, export_path=tmp_path / "store", **placed)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "store").exists()


def test_a_missing_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointNotFoundError):
        create_archive(tmp_path / "none.pt", export_path=tmp_path)


def test_a_profile_is_changed_in_a_copy_that_keeps_the_handler_section(sample_archive, tmp_path):
    custom, latency = tmp_path / "custom.yaml", tmp_path / "latency.mar"
    custom.write_text(yaml.safe_dump({"batchSize": 8, "handler": {"model_class": "ignored"}}))
    with_profile(sample_archive, "latency", latency)
    with_profile(latency, str(custom), tmp_path / "custom.mar")
    archive = read_archive(tmp_path / "custom.mar")
    assert archive.settings == {"batchSize": 8, "handler": {}}
    assert torch.equal(
        archive.checkpoint["golden"]["logits"], read_archive(sample_archive).checkpoint["golden"]["logits"]
    )


def rewritten(archive: Path, target: Path, **changes: bytes | None) -> Path:
    """A copy with other members; those that are None are left out."""
    replaced = {"manifest": MANIFEST, "settings": "model-config.yaml", "checkpoint": "checkpoint.pt"}
    members = {replaced[name]: contents for name, contents in changes.items()}
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            contents = members.get(name, source.read(name))
            if contents is not None:
                copy.writestr(name, contents)
    return target


@pytest.mark.parametrize(
    "changes",
    [
        {"manifest": None},
        {"manifest": b"{"},
        {"manifest": b"[]"},
        {"manifest": b'{"model": 3}'},
        {"manifest": orjson.dumps({"model": {"modelName": "x", "modelVersion": "1"}})},
        {"manifest": orjson.dumps({"model": {"modelName": "x", "modelVersion": "1", "serializedFile": "gone.pt"}})},
        {"manifest": orjson.dumps({"model": {"modelName": "x", "modelVersion": "1", "serializedFile": 3}})},
        {"settings": None},
        {"settings": b"a: [1,\n  b: {"},
        {"settings": b"- 1\n- 2\n"},
        {"checkpoint": None},
        {"checkpoint": b""},
        {"checkpoint": b"PK\x03\x04"},
    ],
    ids=str,
)
def test_an_archive_with_a_broken_member_is_refused(sample_archive, tmp_path, changes):
    broken = rewritten(sample_archive, tmp_path / "broken.mar", **changes)
    with pytest.raises(simplenet.SimpleNetError) as caught:
        read_archive(broken)
    assert "broken.mar" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "damage",
    [lambda old: old[:-100], lambda old: old[: len(old) // 2], lambda old: b"", lambda old: b"no zip"],
    ids=["end cut off", "half", "empty", "text"],
)
def test_a_damaged_archive_is_refused(sample_archive, tmp_path, damage):
    broken = tmp_path / "broken.mar"
    broken.write_bytes(damage(sample_archive.read_bytes()))
    with pytest.raises(ArchiveError, match=r"broken\.mar: not a model archive"):
        read_archive(broken)


def test_one_flipped_byte_in_an_archive_is_found(sample_archive, tmp_path):
    contents = bytearray(sample_archive.read_bytes())
    contents[contents.index(b"class SimpleNetHandler") + 7] ^= 1
    (tmp_path / "x.mar").write_bytes(contents)
    with pytest.raises(ArchiveError, match=r"x.mar: damaged: simplenet_handler.py does not match its checksum"):
        read_archive(tmp_path / "x.mar")


def test_a_path_without_an_archive_is_refused(tmp_path):
    with pytest.raises(ArchiveError, match=r"none\.mar: no such file"):
        read_archive(tmp_path / "none.mar")


def deflated(archive, target, extra=b""):
    """A copy whose members are compressed, with one more."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as copy:
        for name in source.namelist():
            copy.writestr(name, source.read(name))
        copy.writestr("extra", extra)
    return target


@pytest.mark.parametrize("name", ["../escape", "a\nenable_model_api=true", "a=b", "", 7])
def test_a_manifest_cannot_name_a_model_that_archive_would_not(sample_archive, tmp_path, name):
    with zipfile.ZipFile(sample_archive) as archive:
        manifest = json.loads(archive.read(MANIFEST))
    manifest["model"]["modelName"] = name
    file = rewritten(sample_archive, tmp_path / "a.mar", manifest=json.dumps(manifest).encode())
    with pytest.raises(ArchiveError, match="modelName: expected letters"):
        read_archive(file)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(sample_archive, tmp_path):
    bomb = deflated(sample_archive, tmp_path / "b.mar", bytes(2**29))
    with pytest.raises(ArchiveError, match="expected to unpack to at most"):
        read_archive(bomb)


def test_an_encrypted_or_undecodable_member_is_refused(sample_archive, tmp_path):
    packed = deflated(sample_archive, tmp_path / "c.mar").read_bytes()
    directory = packed.index(b"PK\x01\x02")
    for offset, value in ((8, 1), (10, 99)):  # the flag "encrypted"; a compression method that there is not
        damaged = bytearray(packed)
        damaged[directory + offset] = value
        (tmp_path / "c.mar").write_bytes(damaged)
        with pytest.raises(ArchiveError, match="not a model archive made by simplenet archive"):
            read_archive(tmp_path / "c.mar")


def test_the_command_packs_the_mnist_network_of_pytorchs_examples(tmp_path, digits):
    module, network = written(tmp_path, MNIST_NET, "Net")
    save_for_inference(network(), tmp_path / "mnist_cnn.pt", input_shape=MNIST_SHAPE)
    before = (tmp_path / "mnist_cnn.pt").read_bytes()
    command = [
        *("archive", tmp_path / "mnist_cnn.pt", "--model-file", module, "--model-class", "Net"),
        *("--input-shape", "1,28,28", "--normalize", "0.1307,0.3081", "--export-path", tmp_path / "store"),
    ]
    printed = CliRunner().invoke(app, [str(word) for word in command])
    assert printed.exit_code == 0, printed.output
    said, anew, wrote = printed.output.splitlines()
    assert said == "preprocessing {'scale': 1.0, 'mean': [0.1307], 'std': [0.3081]} instead of none"
    assert anew == "golden samples recorded anew"
    assert wrote.startswith("wrote ")
    assert (tmp_path / "mnist_cnn.pt").read_bytes() == before
    archive = read_archive(tmp_path / "store" / "simplenet.mar")
    assert archive.checkpoint["output"] == "log_probabilities"
    assert sample_request(archive, tmp_path)[0] == "image/png"
    assert create_archive(archive.path, model_name="again", export_path=tmp_path, model_file=module,
                          model_class="Net", say=pytest.fail).name == "again.mar"  # fmt: skip


def test_what_an_archive_adds_to_its_checkpoint_is_said_once_and_nothing_else_is(checkpoint, tmp_path):
    said = []
    packed = create_archive(
        checkpoint, export_path=tmp_path, preprocessing={"scale": 255}, model_config={**CONFIG}, say=said.append
    )
    assert len(said) == 2
    assert said[0].startswith("preprocessing {'scale': 255.0")
    assert read_archive(packed).checkpoint["preprocessing"]["scale"] == 255
    assert describe(packed).golden.startswith("8 samples agree")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (3, 3)}, r"SimpleNet: cannot predict rows of shape \(8, 3, 3\)"),
        ({"input_shape": (0,)}, "input_shape: expected whole numbers above 0"),
        ({"preprocessing": {"std": -1}}, "preprocessing: std: expected numbers above 0"),
        ({"output": "probabilities"}, "output: stated as probabilities, found logits"),
        ({"model_config": {**CONFIG, "hidden_size": 5}}, "expected shape"),
        ({"model_config": {}}, "model_config: missing field"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_made(checkpoint, tmp_path, arguments, message):
    with pytest.raises(simplenet.SimpleNetError, match=message):
        create_archive(checkpoint, export_path=tmp_path / "store", **arguments)
    assert not (tmp_path / "store").exists()


def test_a_deeper_network_is_packed(tmp_path):
    save_for_inference(SimpleNet(9, hidden_sizes=(6, 5), num_classes=3), tmp_path / "deep.pt")
    packed = create_archive(tmp_path / "deep.pt", export_path=tmp_path)
    assert read_archive(packed).checkpoint["model_config"]["hidden_sizes"] == [6, 5]


def test_a_label_with_half_a_surrogate_is_staged(tmp_path):
    save_for_inference(SimpleNet(4, 8, 2), tmp_path / "small.pt")
    adopted = SimpleNamespace(checkpoint={"classes": ["a\udc80", "b"]}, notes=())
    _stage_files(tmp_path, tmp_path / "small.pt", adopted, {}, None)
    assert orjson.loads((tmp_path / "extra" / LABELS_FILE).read_bytes()) == {"0": "a?", "1": "b"}
