"""How many GPUs TorchServe will find, and how many workers it starts on them."""

import subprocess
from collections.abc import Mapping
from typing import Any

from simplenet.server.model_config import whole_number
from simplenet.settings import VISIBLE_GPUS

_TIMEOUT_S = 30.0  # with eight GPUs and no persistence daemon, nvidia-smi takes seconds


def count_gpus() -> int:
    """The GPUs that TorchServe spreads workers over: those of CUDA_VISIBLE_DEVICES, or all that nvidia-smi lists."""
    if visible := VISIBLE_GPUS.read():
        return len(visible.split(","))
    try:
        listing = subprocess.run(
            ["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    gpus = [line for line in listing.stdout.splitlines() if line.startswith("GPU ")]  # the slices of one are indented
    return len(gpus) if listing.returncode == 0 else 0


def workers_of(settings: Mapping[str, Any], chosen: int | None, gpus: int) -> int:
    """The workers that TorchServe starts for a model.

    Args:
        settings: the archive's model-config; its `minWorkers` wins where `maxWorkers` is no less.
        chosen: by the user; by default one for each GPU that the model may use, or one on the CPU.
        gpus: on this machine.
    """
    least = whole_number(settings, "minWorkers")
    if 0 < least <= whole_number(settings, "maxWorkers"):  # else TorchServe ignores both
        return least
    if chosen:
        return chosen
    if settings.get("deviceType") == "cpu":
        return 1
    devices = settings.get("deviceIds") or ()
    if isinstance(devices, list) and all(device in range(gpus) for device in devices):  # else TorchServe ignores it
        return len(devices)
    return max(1, gpus)
