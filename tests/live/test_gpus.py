"""Machines of one, four and eight GPUs, as far as a stand-in nvidia-smi makes one."""

import pytest
import yaml
from support import simplenet, stand_in_nvidia_smi, worker_pids

from simplenet import create_archive
from simplenet.server import find, living_workers

NVIDIA_SMI_S = 0.8  # what it takes on a machine of eight GPUs


@pytest.mark.parametrize("gpus", [1, 8])
def test_every_gpu_gets_one_worker(start_server, model_store, tmp_path, gpus):
    path = stand_in_nvidia_smi(tmp_path, gpus, NVIDIA_SMI_S)
    running = start_server("--model-store", model_store, PATH=path, CUDA_VISIBLE_DEVICES="")
    workers = living_workers(find(running.port))
    assert sorted(worker.gpu for worker in workers) == list(range(gpus))
    assert {worker.pid for worker in workers} == worker_pids(running.port)
    assert {(worker.model, worker.version, len(worker.content_hash)) for worker in workers} == {
        ("simplenet", "1.0", 64)
    }
    assert simplenet("stop", "--port", str(running.port)).returncode == 0  # the memory of eight workers


def test_each_model_gets_the_workers_and_gpus_of_its_own_profile(start_server, trained_checkpoint, tmp_path):
    profiles = {
        "listed": {"deviceType": "gpu", "deviceIds": [0, 2]},  # as in the README
        "cpu": {"deviceType": "cpu"},
        "own": {"deviceType": "cpu", "minWorkers": 2, "maxWorkers": 3},
    }
    for name, settings in profiles.items():
        profile = tmp_path / f"{name}.yaml"
        profile.write_text(yaml.safe_dump({"batchSize": 64, "maxBatchDelay": 1, **settings}))
        create_archive(trained_checkpoint, model_name=name, export_path=tmp_path / "store", profile=str(profile))
    path = stand_in_nvidia_smi(tmp_path, 4)
    running = start_server("--model-store", tmp_path / "store", PATH=path, CUDA_VISIBLE_DEVICES="")
    workers = living_workers(find(running.port))
    assert sorted(worker.gpu for worker in workers if worker.model == "listed") == [0, 2]
    assert sorted(worker.model for worker in workers) == ["cpu", "listed", "listed", "own", "own"]
    assert {worker.pid for worker in workers} == worker_pids(running.port)
    assert "(workers: cpu 1, listed 2, own 2, logs: " in running.output
    assert simplenet("stop", "--port", str(running.port)).returncode == 0
