"""A checkpoint, the handler and this library, packed into one self-contained .mar file, and read back.

What needs torch is imported where it is needed: `serve` uses the rest while TorchServe starts.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from simplenet.atomic import PathLike, atomic_write
from simplenet.errors import ArchiveError
from simplenet.manifest import DAMAGED_ZIP, MODEL_CONFIG_FILE, NAME, Manifest, read_manifest
from simplenet.resources import resource

LABELS_FILE = "index_to_name.json"
CHECKPOINT_FILE = "checkpoint.pt"
HANDLER = "simplenet_handler.py"
PROFILES = ("throughput", "latency")
DEFAULT_PROFILE = "throughput"

# What a profile may set, with the least of each number: of TorchServe's model-config what this handler can use.
# https://github.com/pytorch/serve/blob/master/frontend/archive/src/main/java/org/pytorch/serve/archive/model/ModelConfig.java
_NUMBERS = {
    "batchSize": 1,
    "clientTimeoutInMills": 1,
    "jobQueueSize": 1,
    "maxBatchDelay": 0,
    "maxRetryTimeoutInSec": 1,
    "maxWorkers": 1,
    "minWorkers": 1,
    "responseTimeout": 1,
    "startupTimeout": 1,
}
_OTHERS = {"deviceType": "cpu or gpu", "deviceIds": "a list of GPU numbers", "handler": "a mapping"}

# Loads the unpacked archive as a worker would, with the archive's own library.
_TRIAL = """
import sys, torch, yaml
from simplenet.errors import SimpleNetError
from simplenet.serving.predictor import Predictor
try:
    settings = yaml.safe_load(open("model-config.yaml"))
    Predictor.from_archive(".", torch.device("cpu"), settings.get("handler") or {})
except SimpleNetError as error:
    sys.exit(str(error))
"""


@dataclass(frozen=True)
class Archive(Manifest):
    """What a .mar says of itself, and the checkpoint in it."""

    checkpoint: dict[str, Any]


def create_archive(
    checkpoint: PathLike,
    *,
    model_name: str = "simplenet",
    version: str = "1.0",
    export_path: PathLike = "model_store",
    profile: str = DEFAULT_PROFILE,
    model_file: PathLike | None = None,
    model_class: str | None = None,
    force: bool = False,
) -> Path:
    """Pack a checkpoint into `<export_path>/<model_name>.mar`.

    The checkpoint is verified first; the finished archive is loaded once as a worker would load it, then renamed
    into place.

    Args:
        checkpoint: a file saved for inference.
        model_name: the name in the URL.
        version: of the model, in the URL of versioned requests.
        export_path: the folder to put it into; made if missing.
        profile: `throughput`, `latency`, or the path of a YAML file in their form.
        model_file: a Python module with the user's own network.
        model_class: the class in it; by default the checkpoint's `architecture`.
        force: replace an existing archive.

    Returns:
        The path of the archive.

    Raises:
        ArchiveError: the archive exists, or cannot be built, or does not load.
        CheckpointError: the checkpoint is refused.
    """
    for what, value in (("model name", model_name), ("version", version)):
        if not NAME.fullmatch(value):
            raise ArchiveError(f"{what}: expected letters, digits, '_', '-' and '.', found {value!r}")
    if model_file is not None and Path(model_file).name == HANDLER:
        raise ArchiveError(f"{model_file}: expected another name than {HANDLER}, which is the handler's in the archive")
    target = Path(export_path) / f"{model_name}.mar"
    if target.exists() and not force:
        raise ArchiveError(f"{target}: exists already; give --force to replace it")
    settings = _settings(profile)
    labels = _verify(Path(checkpoint), model_file, model_class, settings)
    # TorchServe's archiver deletes and reuses <tmp>/<model name>: it gets a temporary directory of its own.
    with tempfile.TemporaryDirectory(prefix="simplenet-archive-") as scratch:
        stage = Path(scratch)
        _stage_files(stage, Path(checkpoint), settings, labels, model_file)
        _run_archiver(stage, model_name, version, Path(model_file).name if model_file else None)
        made = stage / "out" / f"{model_name}.mar"
        _try_loading(made, stage / "trial")
        _place(made, target, force)
    return target


def read_archive(path: PathLike) -> Archive:
    """Read a .mar without running anything from it.

    Raises:
        ArchiveError: it is no archive, or a damaged one, or has no manifest, model-config or checkpoint.
        CheckpointError: the checkpoint in it is refused.
    """
    from simplenet.checkpoint.file import read_checkpoint

    manifest = read_manifest(path)
    try:
        with zipfile.ZipFile(manifest.path) as archive:
            damaged = archive.testzip()
    except DAMAGED_ZIP as error:
        raise ArchiveError(f"{manifest.path}: not a model archive made by simplenet archive: {error}") from error
    if damaged:
        raise ArchiveError(f"{manifest.path}: damaged: {damaged} does not match its checksum")
    return Archive(**vars(manifest), checkpoint=read_checkpoint(manifest.path))


def with_profile(archive: PathLike, profile: str, target: PathLike) -> None:
    """Copy an archive with the model-config of another profile; the `handler` section stays."""
    replaced = {**_settings(profile), "handler": read_manifest(archive).settings.get("handler", {})}
    with zipfile.ZipFile(archive) as source, atomic_write(target) as file, zipfile.ZipFile(file, "w") as copy:
        for item in source.infolist():
            changed = item.filename == MODEL_CONFIG_FILE
            copy.writestr(item, yaml.safe_dump(replaced).encode() if changed else source.read(item))


def _settings(profile: str) -> dict[str, Any]:
    """The model-config of a profile: one of ours by name, or a YAML file."""
    file = resource(f"config/{profile}.yaml") if profile in PROFILES else Path(profile)
    try:
        settings = yaml.safe_load(file.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        expected = ", ".join(PROFILES)
        raise ArchiveError(f"profile: expected {expected} or a YAML file, found {profile!r}: {error}") from error
    if not isinstance(settings, dict):
        raise ArchiveError(f"{file}: expected the fields of a model-config, found {type(settings).__name__}")
    for key, value in settings.items():
        if wanted := _wrong_setting(key, value):
            raise ArchiveError(f"{file}: {key}: expected {wanted}, found {value!r}")
    return settings


def _wrong_setting(key: Any, value: Any) -> str | None:
    """What was expected instead of this, which TorchServe would only warn of and replace by its default."""
    if key in _NUMBERS:
        return None if _is_number(value, _NUMBERS[key]) else f"a whole number, {_NUMBERS[key]} or more"
    if key not in _OTHERS:
        return f"one of {', '.join(sorted((*_NUMBERS, *_OTHERS)))} as the name of a setting"
    valid = {
        "deviceType": value in ("cpu", "gpu"),
        "deviceIds": isinstance(value, list) and all(_is_number(device, 0) for device in value),
        "handler": value is None or isinstance(value, dict),
    }
    return None if valid[key] else _OTHERS[key]


def _is_number(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**31


def _verify(
    checkpoint: Path, model_file: PathLike | None, model_class: str | None, settings: dict[str, Any]
) -> list[str] | None:
    """Rebuild the checkpoint's network as a worker would; note its class in `settings`; return its labels."""
    from simplenet.checkpoint import restore
    from simplenet.checkpoint.file import read_checkpoint
    from simplenet.checkpoint.keys import CLASSES

    loaded = read_checkpoint(checkpoint)
    network = None
    if model_file is not None:
        from simplenet.serving.predictor import load_network

        config = loaded.get("model_config")
        class_name = model_class or (config.get("architecture", "") if isinstance(config, dict) else "")
        network = load_network(Path(model_file), class_name)
        settings["handler"] = {**(settings.get("handler") or {}), "model_class": class_name}
    elif model_class is not None:
        raise ArchiveError("--model-class: expected --model-file with it, found none")
    restore(loaded, "cpu", str(checkpoint), network)
    return loaded.get(CLASSES)


def _stage_files(
    stage: Path,
    checkpoint: Path,
    settings: dict[str, Any],
    labels: list[str] | None,
    model_file: PathLike | None,
) -> None:
    """Lay out everything that the archive will hold, under names that are the same for every user."""
    extra = stage / "extra"
    shutil.copytree(Path(__file__).parent, extra / "simplenet", ignore=shutil.ignore_patterns("__pycache__"))
    if labels:
        (extra / LABELS_FILE).write_bytes(orjson.dumps({str(i): label for i, label in enumerate(labels)}))
    shutil.copyfile(checkpoint, stage / CHECKPOINT_FILE)
    shutil.copyfile(resource(f"handlers/{HANDLER}"), stage / HANDLER)
    (stage / MODEL_CONFIG_FILE).write_text(yaml.safe_dump(settings))
    if model_file is not None:
        shutil.copyfile(model_file, stage / Path(model_file).name)
    (stage / "tmp").mkdir()
    (stage / "out").mkdir()


def _run_archiver(stage: Path, model_name: str, version: str, model_file: str | None) -> None:
    command = [
        *(sys.executable, "-m", "model_archiver.model_packaging", "--archive-format", "zip-store"),
        *("--model-name", model_name, "--version", version, "--export-path", "out"),
        *("--serialized-file", CHECKPOINT_FILE, "--handler", HANDLER),
        *("--config-file", MODEL_CONFIG_FILE, "--extra-files", "extra"),
        *(("--model-file", model_file) if model_file else ()),
    ]
    environment = {**os.environ, "TMPDIR": str(stage / "tmp")}
    done = subprocess.run(command, cwd=stage, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ArchiveError(f"torch-model-archiver failed: {_last_line(done.stderr)}")


def _try_loading(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", _TRIAL],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ArchiveError(f"{archive.name}: the finished archive does not load: {_last_line(done.stderr)}")


def _place(made: Path, target: Path, force: bool) -> None:
    try:
        with made.open("rb") as source, atomic_write(target, overwrite=force) as file:
            shutil.copyfileobj(source, file, 2**20)
    except FileExistsError as error:
        raise ArchiveError(f"{target}: exists already; give --force to replace it") from error
    except OSError as error:
        raise ArchiveError(f"{target}: cannot be written: {error.strerror}") from error


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "no message")
