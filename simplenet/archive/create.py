"""A checkpoint, the handler and this library, packed into one self-contained .mar file.

Modules that need torch are imported inside functions: `serve` uses the rest while TorchServe starts.
"""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import yaml

from simplenet.archive.profile import DEFAULT_PROFILE, read_profile
from simplenet.atomic import atomic_write
from simplenet.errors import ArchiveError
from simplenet.manifest import MODEL_CONFIG_FILE, NAME
from simplenet.paths import PathLike, resource
from simplenet.settings import DEFAULT_MODEL_NAME
from simplenet.text import last_line

if TYPE_CHECKING:
    from simplenet.checkpoint.adopt import Adopted

logger = logging.getLogger(__name__)
LABELS_FILE = "index_to_name.json"
CHECKPOINT_FILE = "checkpoint.pt"
_LIBRARY = Path(__file__).resolve().parents[1]
_NOT_CARRIED = ("__pycache__", "cli", "client", "resources", "server", "training")  # folders that no worker needs
HANDLER = "simplenet_handler.py"

# Loads the unpacked archive as a worker would, with the archive's own library.
_TRIAL = """
import sys, torch, yaml
from simplenet.errors import SimpleNetError
from simplenet.worker.predictor import Predictor
try:
    settings = yaml.safe_load(open("model-config.yaml"))
    Predictor.from_archive(".", torch.device("cpu"), settings.get("handler") or {})
except SimpleNetError as error:
    sys.exit(str(error))
"""


def create_archive(
    checkpoint: PathLike,
    *,
    model_name: str = DEFAULT_MODEL_NAME,
    version: str = "1.0",
    export_path: PathLike = "model_store",
    profile: str = DEFAULT_PROFILE,
    model_file: PathLike | None = None,
    model_class: str | None = None,
    force: bool = False,
    key: str | None = None,
    model_config: Mapping[str, Any] | None = None,
    input_shape: Sequence[int] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    output: str | None = None,
    strict: bool = False,
    say: Callable[[str], None] = logger.warning,
) -> Path:
    """Pack a checkpoint into `<export_path>/<model_name>.mar`.

    A checkpoint that was saved whole is verified first, any other file is adopted. The finished archive is loaded once
    as a worker would load it, then renamed into place. In the archive the checkpoint is always a `.pt`.

    Args:
        checkpoint: any file with the weights of a network.
        model_name: the name in the URL.
        version: of the model, in the URL of versioned requests.
        export_path: the folder to write to; created if missing.
        profile: `throughput`, `latency`, or the path of a YAML file of the same form.
        model_file: a Python module with the user's own network.
        model_class: the class in it; by default the checkpoint's `architecture`.
        force: replace an existing archive.
        key: the dotted path of the weights in the file, if several would fit.
        model_config: the constructor's arguments, instead of what the file says.
        input_shape: as for `save_for_inference`, instead of what the file says.
        preprocessing: likewise; its entries replace those of the same name.
        output: likewise.
        strict: refuse a file that was not saved whole.
        say: called with each line about what the file lacked and how it was adopted, or what was changed.

    Returns:
        The path of the archive.

    Raises:
        ArchiveError: the archive exists, cannot be built or does not load.
        CheckpointError: the checkpoint is refused.
        ConfigError: an argument is impossible.

    Example:
        >>> from simplenet import SimpleNet, save_for_inference
        >>> save_for_inference(SimpleNet(4, 8, 3), "model.pt")
        >>> create_archive("model.pt", model_name="tiny", export_path="store").name
        'tiny.mar'
    """
    for what, value in (("model name", model_name), ("version", version)):
        if not NAME.fullmatch(value):
            raise ArchiveError(f"{what}: expected letters, digits, '_', '-' and '.', found {value!r}")
    if model_file is not None and Path(model_file).name == HANDLER:
        raise ArchiveError(f"{model_file}: expected another name than {HANDLER}, which is the handler's in the archive")
    target = Path(export_path) / f"{model_name}.mar"
    if target.exists() and not force:
        raise ArchiveError(f"{target}: exists already; give --force to replace it")
    settings = read_profile(profile)
    given = {
        "key": key, "model_config": model_config, "input_shape": input_shape, "preprocessing": preprocessing,
        "output": output, "strict": strict,
    }  # fmt: skip
    adopted = _load(Path(checkpoint), model_file, model_class, settings, given)
    for note in adopted.notes:
        say(note)
    # TorchServe's archiver deletes and reuses <tmp>/<model name>, so it gets its own temporary directory.
    with tempfile.TemporaryDirectory(prefix="simplenet-archive-") as scratch:
        stage = Path(scratch)
        _stage_files(stage, Path(checkpoint), adopted, settings, model_file)
        packed = _run_archiver(stage, model_name, version, Path(model_file).name if model_file else None)
        _try_loading(packed, stage / "trial")
        _place(packed, target, force)
    return target


def _load(
    checkpoint: Path,
    model_file: PathLike | None,
    model_class: str | None,
    settings: dict[str, Any],
    given: Mapping[str, Any],
) -> "Adopted":
    """Load the checkpoint as a worker would, adopted if necessary; the class name is added to `settings`."""
    from simplenet.checkpoint.adopt import Given
    from simplenet.checkpoint.load import load_any

    network = None
    if model_file is not None:
        from simplenet.model_file import load_network

        class_name = model_class or _stored_class(checkpoint)
        network = load_network(Path(model_file), class_name)
        settings["handler"] = {**(settings.get("handler") or {}), "model_class": class_name}
    elif model_class is not None:
        raise ArchiveError("--model-class: expected --model-file with it, found none")
    return load_any(checkpoint, "cpu", Given(network=network, **given))


def _stored_class(checkpoint: Path) -> str:
    """The class that the checkpoint's model_config names, or an empty string."""
    from simplenet.checkpoint.file import read_contents
    from simplenet.checkpoint.keys import MODEL_CONFIG
    from simplenet.model import ARCHITECTURE

    contents = read_contents(checkpoint, mapped=True)
    config = contents.get(MODEL_CONFIG) if isinstance(contents, dict) else None
    name = config.get(ARCHITECTURE, "") if isinstance(config, dict) else ""
    return name if isinstance(name, str) else ""


def _stage_files(
    stage: Path, checkpoint: Path, adopted: "Adopted", settings: dict[str, Any], model_file: PathLike | None
) -> None:
    """Lay out all files of the archive, under names that are the same for every user."""
    from simplenet.checkpoint.file import is_torch_zip_file, write_checkpoint
    from simplenet.checkpoint.keys import CLASSES

    extra = stage / "extra"
    shutil.copytree(_LIBRARY, extra / "simplenet", ignore=shutil.ignore_patterns(*_NOT_CARRIED))
    if labels := adopted.checkpoint.get(CLASSES):
        # Half a surrogate, of a damaged file, is no UTF-8.
        named = {str(i): str(label).encode(errors="replace").decode() for i, label in enumerate(labels)}
        (extra / LABELS_FILE).write_bytes(orjson.dumps(named))
    if not adopted.notes and is_torch_zip_file(checkpoint):
        shutil.copyfile(checkpoint, stage / CHECKPOINT_FILE)
    else:  # adopted, or in a form that a stock TorchServe cannot read, such as .safetensors
        write_checkpoint(adopted.checkpoint, stage / CHECKPOINT_FILE)
    shutil.copyfile(resource(f"handlers/{HANDLER}"), stage / HANDLER)
    (stage / MODEL_CONFIG_FILE).write_text(yaml.safe_dump(settings))
    if model_file is not None:
        shutil.copyfile(model_file, stage / Path(model_file).name)
    (stage / "tmp").mkdir()
    (stage / "out").mkdir()


def _run_archiver(stage: Path, model_name: str, version: str, model_file: str | None) -> Path:
    command = [
        *(sys.executable, "-m", "model_archiver.model_packaging", "--archive-format", "zip-store"),
        *("--model-name", model_name, "--version", version, "--export-path", "out"),
        *("--serialized-file", CHECKPOINT_FILE, "--handler", HANDLER),
        *("--config-file", MODEL_CONFIG_FILE, "--extra-files", "extra"),
        *(("--model-file", model_file) if model_file else ()),
    ]
    environment = {**os.environ, "TMPDIR": str(stage / "tmp")}
    archiver = subprocess.run(command, cwd=stage, env=environment, capture_output=True, text=True, check=False)
    if archiver.returncode:
        raise ArchiveError(f"torch-model-archiver failed: {last_line(archiver.stderr)}")
    return stage / "out" / f"{model_name}.mar"


def _try_loading(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    trial = subprocess.run(
        [sys.executable, "-c", _TRIAL],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if trial.returncode:
        raise ArchiveError(f"{archive.name}: the finished archive does not load: {last_line(trial.stderr)}")


def _place(packed: Path, target: Path, force: bool) -> None:
    try:
        with packed.open("rb") as source, atomic_write(target, overwrite=force) as file:
            shutil.copyfileobj(source, file, 2**20)
    except FileExistsError as error:
        raise ArchiveError(f"{target}: exists already; give --force to replace it") from error
    except OSError as error:
        raise ArchiveError(f"{target}: cannot be written: {error.strerror}") from error
