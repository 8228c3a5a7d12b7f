"""Each kind of file is named, with a remedy in one line; the remedies that are commands work as they stand."""

import io
import json
import pickle
import re
import shlex
import subprocess
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as distributed_checkpoint
from safetensors.torch import load_file, save_file
from torch import nn

from simplenet.checkpoint.reading.kinds import kind_of, kind_of_file, kind_of_stream


def zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"x" * 50)
    return stream.getvalue()


def encrypted() -> bytes:
    data = bytearray(zipped("model.pt"))
    data[6] |= 1
    return bytes(data)


def tarred(*names: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    return stream.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 1234567\n"
S3 = b'<?xml version="1.0"?>\n<Error><Code>%s</Code><Message>no</Message></Error>'
INDEX = {
    "metadata": {},
    "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"},
}
# the file's name, its bytes, part of the kind's name, part of its remedy
GIVEN: dict[str, tuple[str, bytes, str, str]] = {
    "TorchScript": ("m.pt", zipped("m/data.pkl", "m/constants.pkl", "m/code/a.py"), "TorchScript", "torch.jit.load("),
    "torch.export": ("m.pt2", zipped("m/archive_format", "m/archive_version"), "torch.export", "torch.export.load("),
    "torch.export (old)": ("m.pt2", zipped("serialized_exported_program.json"), "torch.export", "torch.export.load("),
    "AOTInductor": (
        "m.pt2",
        zipped("m/archive_format", "m/data/aotinductor/model/a.so"),
        "AOTInductor",
        "state_dict()",
    ),
    "ONNX": ("m.bin", b"\x08\x0a\x12\x07pytorch\x1a\x052.1.0:\xff", "an ONNX model", "exported from"),
    "ONNX by name": ("m.onnx", b"\x3a\xff\xff", "an ONNX model", "pip install onnx"),
    "HDF5": ("m.pt", b"\x89HDF\r\n\x1a\n" + bytes(50), "an HDF5 file", "pip install h5py"),
    "Keras": ("m.keras", zipped("metadata.json", "config.json", "model.weights.h5"), "a Keras model", "transpose"),
    "SavedModel": ("saved_model.pb", b"\x08\x01\x12\xff\xff", "a TensorFlow graph", "transpose"),
    "SavedModel zip": ("m.zip", zipped("m/saved_model.pb"), "a TensorFlow SavedModel", "transpose"),
    "TensorFlow shard": ("m.ckpt.data-00000-of-00001", b"\xff\xff", "a TensorFlow checkpoint", "transpose"),
    "TensorFlow index": ("m.ckpt.index", b"\xff" * 9 + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb", "TensorFlow", "transpose"),
    "TensorFlow list": ("checkpoint", b'model_checkpoint_path: "m.ckpt"', "index of a TensorFlow", "transpose"),
    "TFLite": ("m.tflite", b"\x20\0\0\0TFL3\xff", "a TensorFlow Lite model", "transpose"),
    "CoreML": ("m.mlmodel", b"\x08\x04\x12\x05abcde\xff", "a CoreML model", "state_dict()"),
    "CoreML zip": ("m.zip", zipped("m/Data/com.apple.CoreML/model.mlmodel"), "a CoreML package", "state_dict()"),
    "OpenVINO": ("m.xml", b'<?xml version="1.0"?><net name="m" version="11"><layers>', "an OpenVINO", "state_dict()"),
    "GGUF": ("m.gguf", b"GGUF\x03\0\0\0", "a GGUF file", "converted from"),
    "GGML": ("m.bin", b"lmgg\x03\0\0\0", "a GGML file", "converted from"),
    "ExecuTorch": ("m.pte", b"\x20\0\0\0ET12\xff", "an ExecuTorch program", "state_dict()"),
    "TensorRT": ("m.engine", b"ftrt\xff", "a TensorRT engine", "state_dict()"),
    "MXNet": ("m.params", b"\x12\x01\0\0\0\0\0\0\xff", "an MXNet", "transpose"),
    "PaddlePaddle": ("m.pdiparams", b"\0\0\0\0\xff", "PaddlePaddle", "transpose"),
    "Flax": ("m.msgpack", b"\x81\xa6params\xff", "a Flax checkpoint", "transpose"),
    "LFS": ("a b.pt", POINTER, "(sha256 4d7a214614ab…, 1,234,567 bytes)", "git lfs pull --include 'a b.pt'"),
    "HTML": ("m.pt", b"\n<!DOCTYPE html><title>Sign &amp;\n in</title>", "an HTML page: 'Sign & in'", "/resolve/"),
    "S3 denied": ("m.pt", S3 % b"AccessDenied", "an error of the storage: AccessDenied", "credentials"),
    "S3 no key": ("m.pt", S3 % b"NoSuchKey", "an error of the storage: NoSuchKey", "check its address"),
    "other XML": ("m.pt", b"<rss></rss>", "XML: '<rss></rss>'", "download"),
    "JSON error": ("m.pt", b'{"error":"Repository not found"}', "'Repository not found'", "logged in"),
    "JSON": ("m.pt", b"[1, 2]", "JSON: '[1, 2]'", "name the file that holds the weights"),
    "index": ("m.index.json", json.dumps(INDEX).encode(), "in 2 files: 'model-00001-of-00002.safetensors'", "merge"),
    "configuration": ("config.json", b'{"model_type": "bert"}', "a configuration", "name the file"),
    "tokenizer": ("tokenizer.json", b'{"version": "1.0"}', "a tokenizer", "name the file"),
    "notebook": ("m.ipynb", b'{"cells": [], "nbformat": 4}', "a notebook", "it is code"),
    "text": ("m.pt", b"Invalid username or password.", "'Invalid username or password.'", "download"),
    "404": ("m.pt", b"404: Not Found", "'404: Not Found'", "download"),
    "text like a pickle": ("m.txt", b"cat\ndog\ncow\n", "'cat dog cow'", "name the file"),
    "cut within a character": ("m.txt", "naïve".encode()[:3], "plain text: 'na'", "name the file"),
    "Python": ("net.py", b"class Net: ...", "Python code", "--model-file"),
    "Python of another name": ("m.pt", b"import torch\n", "Python code", "--model-file"),
    "YAML": ("m.yaml", b"lr: 0.1", "a configuration", "name the file"),
    "zeros": ("m.pt", bytes(5000), "nothing but zeros", "download"),
    "empty": ("m.pt", b"", "an empty file", "download"),
    "torch.distributed": ("__0_0.distcp", zipped("m/data.pkl"), "torch.distributed", "dcp_to_torch"),
    "torch.distributed metadata": (".metadata", b"\x80\x02.", "torch.distributed", "dcp_to_torch"),
    "DeepSpeed": (
        "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt",
        zipped("m/data.pkl"),
        "DeepSpeed",
        "zero_to_fp32.py",
    ),
    "7z": ("m.7z", b"7z\xbc\xaf\x27\x1c\0", "a 7z archive", "unpack"),
    "RAR": ("m.rar", b"Rar!\x1a\x07\0", "a RAR archive", "unpack"),
    "zstd": ("m.pt.zst", b"\x28\xb5\x2f\xfd\xff", "zstd", "m.pt.zst,"),
    "tar of old torch": ("m.pt", tarred("sys_info", "pickle"), "torch before 0.1.10", "ask its author"),
    "tar": ("m.tar", tarred("a.txt"), "a tar", "unpack"),
    "PNG": ("m.pt", b"\x89PNG\r\n\x1a\n\0", "PNG", "name the file"),
    "JPEG": ("m.pt", b"\xff\xd8\xff\xe0", "JPEG", "name the file"),
    "PDF": ("m.pt", b"%PDF-1.7\n\xff", "PDF", "name the file"),
    "ELF": ("m.so", b"\x7fELF\x02\x01", "ELF", "state_dict()"),
    "wheel": ("m.whl", zipped("m/__init__.py", "m-1.dist-info/WHEEL"), "a Python wheel", "it is code"),
    "SQLite": ("m.db", b"SQLite format 3\0\x10", "an SQLite database", "name the file"),
    "Parquet": ("m.parquet", b"PAR1\x15\0", "a Parquet table", "name the file"),
    "encrypted zip": ("m.zip", encrypted(), "an encrypted zip", "password"),
    "cut zip": ("m.pt", zipped("m/data.pkl")[:-30], "a zip that is cut off", "download"),
    "empty zip": ("m.zip", zipped(), "an empty zip", "name the file"),
    "other zip": ("m.zip", zipped("a.txt", "b.csv"), "a zip of 'a.txt', 'b.csv'", "unpack"),
    "cut safetensors": ("m.safetensors", (500).to_bytes(8, "little") + b'{"a":', "header has 500 bytes", "download"),
    "very short safetensors": ("m.safetensors", b"\x10\0\0\0", "a .safetensors file that is cut off", "download"),
}


@pytest.mark.parametrize("kind", GIVEN)
def test_each_kind_is_named_with_a_remedy(kind: str, tmp_path: Path) -> None:
    name, data, expected, remedy = GIVEN[kind]
    path = tmp_path / name
    path.write_bytes(data)
    found = kind_of_file(path)
    assert found is not None
    assert expected in found.name
    assert remedy in found.remedy
    assert "\n" not in found.name + found.remedy
    assert "weights_only=False" not in found.remedy
    inner = kind_of_stream(io.BytesIO(data), f"m.zip!{name}")
    assert inner is not None
    assert inner.name == found.name


def test_a_command_for_what_is_in_a_container_begins_with_unpacking_it() -> None:
    found = kind_of(b"\x3a\xff", "runs/my.zip!net/m.onnx")
    assert found is not None
    assert found.remedy.startswith("unpack runs/my.zip, then hand over")
    assert "onnx.load('net/m.onnx')" in found.remedy


def saved(value: object, **options: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def arrays() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, a=np.ones(2))
    return stream.getvalue()


READABLE: dict[str, bytes] = {
    "torch.save": saved({"a": torch.ones(2)}),
    "torch.save before 1.6": saved({"a": torch.ones(2)}, _use_new_zipfile_serialization=False),
    "pickle 0": pickle.dumps({"a": 1}, 0),
    "pickle 0 of an object": pickle.dumps(io.BytesIO, 0) + b" ",
    "pickle 0, a list": pickle.dumps([1], 0),
    "pickle 1": pickle.dumps({"a": 1}, 1),
    "pickle 5": pickle.dumps({"a": 1}, 5),
    "npz": arrays(),
    "archive": zipped("MAR-INF/MANIFEST.json", "model.pt"),
}


@pytest.mark.parametrize("kind", READABLE)
def test_what_may_be_a_checkpoint_is_left_to_the_reader(kind: str) -> None:
    assert kind_of_stream(io.BytesIO(READABLE[kind]), "m.pt") is None


def test_a_whole_safetensors_file_is_left_to_the_reader(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "m.safetensors")
    assert kind_of_file(tmp_path / "m.safetensors") is None


def test_any_bytes_at_all_are_survived() -> None:
    generator = np.random.default_rng(0)
    starts = [data[:9] for _, data, _, _ in GIVEN.values()]
    for start in starts:
        for name in ("m.pt", "m.onnx", "m.safetensors", "config.json", "a!", "."):
            kind_of(start + generator.bytes(40), name, size=49, tail=b"x")
            kind_of(start, name)


def run(remedy: str) -> None:
    """Execute the `python -c` command in a remedy, as a shell would split it."""
    command = re.search(r'python -c ".*"', remedy)
    assert command
    code = shlex.split(command[0])[2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code, {})  # noqa: S102


def remedy_of(name: str) -> str:
    kind = kind_of_file(name)
    assert kind is not None
    return kind.remedy


@pytest.fixture
def linear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Linear:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def assert_weights(weights: dict[str, torch.Tensor], linear: nn.Linear) -> None:
    assert list(weights) == ["weight", "bias"]
    assert all(torch.equal(tensor, linear.state_dict()[name]) for name, tensor in weights.items())


@pytest.mark.filterwarnings("ignore")
def test_the_remedy_of_torchscript_works(linear: nn.Linear) -> None:
    torch.jit.save(torch.jit.script(linear), "m.pt")
    run(remedy_of("m.pt"))
    assert_weights(torch.load("m_weights.pt", weights_only=True), linear)


@pytest.mark.filterwarnings("ignore")
def test_the_remedy_of_torch_export_works(linear: nn.Linear) -> None:
    torch.export.save(torch.export.export(linear, (torch.ones(1, 3),)), "m.pt2")
    run(remedy_of("m.pt2"))
    assert_weights(torch.load("m_weights.pt", weights_only=True), linear)


def test_the_remedy_of_sharded_safetensors_works(linear: nn.Linear) -> None:
    shards = {name: f"model-0000{n}-of-00002.safetensors" for n, name in enumerate(linear.state_dict(), 1)}
    for name, file in shards.items():
        save_file({name: linear.state_dict()[name]}, file)
    padding = {f"layer.{n}": shards["bias"] for n in range(500)}  # so that the index is longer than what is read first
    Path("model.safetensors.index.json").write_text(json.dumps({"weight_map": {**shards, **padding}}))
    remedy = remedy_of("model.safetensors.index.json")
    run(remedy)
    assert "in '.', run python" in remedy
    assert "name 'model_weights.safetensors'" in remedy
    assert_weights(dict(sorted(load_file("model_weights.safetensors").items(), reverse=True)), linear)


def test_the_remedy_of_sharded_torch_files_works(linear: nn.Linear) -> None:
    shards = {name: f"pytorch_model-0000{n}-of-00002.bin" for n, name in enumerate(linear.state_dict(), 1)}
    for name, file in shards.items():
        torch.save({name: linear.state_dict()[name]}, file)
    Path("pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": shards}))
    run(remedy_of("pytorch_model.bin.index.json"))
    merged = torch.load("pytorch_model_weights.pt", weights_only=True)
    assert_weights(dict(sorted(merged.items(), reverse=True)), linear)


@pytest.mark.filterwarnings("ignore")
def test_the_remedy_of_a_sharded_torch_checkpoint_works(linear: nn.Linear) -> None:
    distributed_checkpoint.save(linear.state_dict(), checkpoint_id="run", no_dist=True)
    for name in ("run", "run/.metadata", "run/__0_0.distcp"):
        remedy = remedy_of(name)
        assert remedy.startswith("run python -m torch.distributed.checkpoint.format_utils dcp_to_torch run ")
    command = shlex.split(remedy.removeprefix("run python ").partition(",")[0])
    subprocess.run([sys.executable, "-W", "ignore", *command], check=True, capture_output=True)
    assert_weights(torch.load("run_weights.pt", weights_only=True), linear)


def test_the_remedy_of_an_unpacked_file_works(linear: nn.Linear) -> None:
    torch.save(linear.state_dict(), "m.pt")
    with zipfile.ZipFile("m.pt") as archive:
        archive.extractall("out")
    run(remedy_of("out/m"))
    assert_weights(torch.load("out/m_weights.zip", weights_only=True), linear)


FOLDERS: dict[str, tuple[list[str], str, str]] = {
    "Hugging Face": (["config.json", "model.safetensors"], "a directory", "in it: 'model.safetensors'"),
    "shards": (["model-00001-of-00002.bin", "model.bin.index.json"], "a directory", "in it: 'model.bin.index.json'"),
    "SavedModel": (["saved_model.pb"], "a TensorFlow SavedModel", "transpose"),
    "DeepSpeed": (["latest", "zero_to_fp32.py"], "a DeepSpeed ZeRO checkpoint", "zero_to_fp32.py . weights"),
    "empty": ([], "a directory", "name the file that holds the weights"),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_is_named(kind: str, tmp_path: Path) -> None:
    names, expected, remedy = FOLDERS[kind]
    (tmp_path / "run").mkdir()
    for name in names:
        (tmp_path / "run" / name).touch()
    found = kind_of_file(tmp_path / "run")
    assert found is not None
    assert found.name == expected
    assert remedy in found.remedy


def test_the_current_folder_is_named(linear: nn.Linear) -> None:
    Path("data.pkl").touch()
    Path("data").mkdir()
    found = kind_of_file(".")
    assert found is not None
    assert found.name == "an unpacked file of torch.save"


def test_the_files_of_a_training_come_after_the_weights(tmp_path):
    for name in ("optimizer.pt", "pytorch_model.bin", "rng_state_0.pth", "scheduler.pt", "training_args.bin"):
        (tmp_path / name).write_bytes(b"")
    kind = kind_of_file(tmp_path)
    assert kind is not None
    assert kind.remedy.startswith("name the file in it: 'pytorch_model.bin', 'optimizer.pt', ")
