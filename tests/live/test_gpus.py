"""Machines of one, two and eight GPUs, as far as a stand-in nvidia-smi makes one."""

import pytest
from support import simplenet, stand_in_nvidia_smi, worker_pids

from simplenet.server import find, living_workers

NVIDIA_SMI_S = 0.8  # what it takes on a machine of eight GPUs


@pytest.mark.parametrize("gpus", [1, 2, 8])
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
