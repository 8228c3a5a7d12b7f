"""How many GPUs TorchServe will find, and how many workers it starts."""

import pytest
from support import stand_in_nvidia_smi

from simplenet.server.gpus import count_gpus, workers_of


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


@pytest.mark.parametrize(
    ("settings", "chosen", "gpus", "workers"),
    [
        ({}, None, 0, 1),
        ({}, None, 8, 8),
        ({}, 3, 8, 3),
        ({"deviceType": "gpu", "deviceIds": [0, 2]}, None, 8, 2),
        ({"deviceType": "gpu", "deviceIds": [0, 2]}, 4, 8, 4),
        ({"deviceIds": [0, 8]}, None, 8, 8),  # TorchServe ignores a list with a GPU that is not there
        ({"deviceIds": [0, 2]}, None, 0, 1),
        ({"deviceIds": []}, None, 8, 8),
        ({"deviceType": "cpu"}, None, 8, 1),
        ({"minWorkers": 2, "maxWorkers": 4}, None, 8, 2),
        ({"minWorkers": 2, "maxWorkers": 4}, 3, 8, 2),  # the archive's own numbers win
        ({"minWorkers": 2}, 3, 8, 3),  # and are ignored if they contradict each other
        ({"minWorkers": 4, "maxWorkers": 2}, 3, 8, 3),
        ({"maxWorkers": 2}, None, 8, 8),
        ({"minWorkers": "2", "maxWorkers": "2", "deviceIds": "0"}, None, 8, 8),
        ({"minWorkers": None, "maxWorkers": None, "deviceIds": None}, None, 8, 8),
        ({"deviceIds": [0, "one"]}, None, 8, 8),
    ],
)
def test_a_model_has_as_many_workers_as_torchserve_starts(settings, chosen, gpus, workers):
    assert workers_of(settings, chosen, gpus) == workers
