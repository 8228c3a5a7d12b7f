"""How many GPUs TorchServe will find."""

import subprocess

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
    return len(listing.stdout.splitlines()) if listing.returncode == 0 else 0
