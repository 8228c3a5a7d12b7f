"""The manifest of a .mar, read without torch and without running code from the archive.

A .mar is a zip with TorchServe's manifest in MAR-INF/MANIFEST.json:
https://github.com/pytorch/serve/blob/master/model-archiver/README.md
"""

import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from simplenet.errors import ArchiveError
from simplenet.paths import PathLike

MANIFEST = "MAR-INF/MANIFEST.json"
MODEL_CONFIG_FILE = "model-config.yaml"
MAX_INFLATION = 100  # times the archive's size; weights barely compress, so a larger ratio means a zip bomb
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # of a model or a version
# What zipfile raises for a damaged file.
DAMAGED_ZIP = (
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, LookupError),
    OSError,  # an offset before the start of the file
)


@dataclass(frozen=True)
class Manifest:
    """The archive's name, its contents and its settings."""

    path: Path
    model_name: str
    version: str
    model_file: str | None  # the user's own network, if any
    settings: dict[str, Any]  # model-config.yaml


def is_archive(path: PathLike) -> bool:
    """Whether the path is a .mar: a zip with a manifest, or any path with that suffix."""
    file = Path(path)
    if file.exists() and not file.is_file():  # a named pipe would be waited for
        return False
    try:
        with zipfile.ZipFile(file) as contents:
            return file.suffix == ".mar" or MANIFEST in contents.namelist()
    except DAMAGED_ZIP:
        return file.suffix == ".mar"


def read_manifest(path: PathLike) -> Manifest:
    """Read the manifest and the model-config.

    Raises:
        ArchiveError: the file is not an archive, or has no manifest or model-config.
    """
    file = Path(path)
    if not file.is_file():
        raise ArchiveError(f"{file}: no such file")
    try:
        with zipfile.ZipFile(file) as archive:
            _refuse_bomb(archive, file)
            model = orjson.loads(archive.read(MANIFEST))["model"]
            settings = yaml.safe_load(archive.read(model.get("configFile", MODEL_CONFIG_FILE))) or {}
            name, version = model["modelName"], model["modelVersion"]
    except ArchiveError:
        raise
    except Exception as error:  # a damaged zip, manifest or YAML fails in many ways; each means the same to the reader
        raise ArchiveError(f"{file}: not a model archive made by simplenet archive: {error}") from error
    for what, value in (("modelName", name), ("modelVersion", version)):
        if not isinstance(value, str) or not NAME.fullmatch(value):
            raise ArchiveError(f"{file}: {what}: expected letters, digits, '_', '-' and '.', found {value!r}")
    if not isinstance(settings, dict):
        raise ArchiveError(
            f"{file}: {MODEL_CONFIG_FILE}: expected the fields of a model-config, found {type(settings).__name__}"
        )
    return Manifest(file, name, version, model.get("modelFile"), settings)


def _refuse_bomb(archive: zipfile.ZipFile, file: Path) -> None:
    unpacked = sum(item.file_size for item in archive.infolist())
    allowed = MAX_INFLATION * file.stat().st_size
    if unpacked > allowed:
        raise ArchiveError(f"{file}: expected to unpack to at most {allowed:,} bytes, found {unpacked:,}")
