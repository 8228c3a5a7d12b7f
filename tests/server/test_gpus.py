"""How many GPUs TorchServe will find."""

import pytest
from support import stand_in_nvidia_smi

from simplenet.server.gpus import count_gpus


@pytest.fixture(autouse=True)
def _no_choice(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize("gpus", [0, 1, 8])
def test_every_gpu_that_nvidia_smi_lists_counts(tmp_path, monkeypatch, gpus):
    monkeypatch.setenv("PATH", stand_in_nvidia_smi(tmp_path, gpus))
    assert count_gpus() == gpus


def test_without_nvidia_smi_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert count_gpus() == 0


def test_an_nvidia_smi_that_fails_means_none(tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'no driver is loaded'\nexit 9\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert count_gpus() == 0


def test_the_visible_gpus_count_as_torchserve_counts_them(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", stand_in_nvidia_smi(tmp_path, 8))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5,7")
    assert count_gpus() == 3
