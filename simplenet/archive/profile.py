"""Profiles: TorchServe's model-config for heavy or for light traffic, or the user's own."""

import zipfile
from pathlib import Path
from typing import Any

import yaml

from simplenet.atomic import atomic_write
from simplenet.errors import ArchiveError
from simplenet.manifest import MODEL_CONFIG_FILE, read_manifest
from simplenet.paths import PathLike, resource

PROFILES = ("throughput", "latency")
DEFAULT_PROFILE = "throughput"

# The fields of TorchServe's model-config that this handler can use, with the minimum of each number.
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


def read_profile(profile: str) -> dict[str, Any]:
    """The model-config of a profile: a bundled one by name, or a YAML file."""
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


def with_profile(archive: PathLike, profile: str, target: PathLike) -> None:
    """Copy an archive with the model-config of another profile; keep the `handler` section."""
    replaced = {**read_profile(profile), "handler": read_manifest(archive).settings.get("handler", {})}
    with zipfile.ZipFile(archive) as source, atomic_write(target) as file, zipfile.ZipFile(file, "w") as copy:
        for item in source.infolist():
            changed = item.filename == MODEL_CONFIG_FILE
            copy.writestr(item, yaml.safe_dump(replaced).encode() if changed else source.read(item))


def _wrong_setting(key: Any, value: Any) -> str | None:
    """What a wrong setting should be, else None; TorchServe would only warn and use its default."""
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
