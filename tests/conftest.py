"""What many tests share: real digits, and a checkpoint trained on them."""

import os
import shutil
import tempfile
from pathlib import Path

# Before anything is imported, also by the processes that tests start: the developer's own servers are left alone. The
# path is short, because sockets are below it.
_STATE = os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="simplenet-", dir="/tmp")

import pytest
import torch
from hypothesis import HealthCheck, settings
from warm_command import end_warm_process

from simplenet.archive import create_archive
from simplenet.checkpoint import save_for_inference
from simplenet.golden import GOLDEN_SAMPLES
from simplenet.model import SimpleNet
from simplenet.paths import resource
from simplenet.training.data import load_split
from simplenet.training.trainer import Trainer

pytest_plugins = ["s3_fixtures"]
os.environ["COLUMNS"] = "200"  # tables as a wide terminal shows them
# Networks this small gain nothing from a second thread, and tests and their processes share the cores.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"
# The same examples every time, and as long as they take: a busy machine fails no test.
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
DIGITS = [str(digit) for digit in range(10)]
START_PROCESSES = ("test_create.py", "test_kill.py", "test_mutations.py", "test_run.py", "test_worker_process.py")


@pytest.fixture(scope="session")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """The bundled t10k digits: rows `(1000, 784)` float32 and labels `(1000,)`."""
    return load_split(resource("data/mnist"), "test")


@pytest.fixture(scope="session")
def trained_checkpoint(tmp_path_factory: pytest.TempPathFactory, digits: tuple[torch.Tensor, torch.Tensor]) -> Path:
    """A checkpoint saved for inference after three epochs on the bundled digits; not to be changed."""
    rows, labels = load_split(resource("data/mnist"), "train")
    torch.manual_seed(0)
    model = SimpleNet()
    trainer = Trainer(model, rows, labels, epochs=3)
    for _ in range(trainer.epochs):
        trainer.run_epoch()
    path = tmp_path_factory.mktemp("trained") / "simplenet.pt"
    save_for_inference(model, path, {"epochs": 3}, classes=DIGITS, golden_inputs=digits[0][:GOLDEN_SAMPLES])
    return path


@pytest.fixture(scope="session")
def sample_archive(tmp_path_factory: pytest.TempPathFactory, trained_checkpoint: Path) -> Path:
    """The trained checkpoint as a .mar; not to be changed."""
    return create_archive(trained_checkpoint, export_path=tmp_path_factory.mktemp("store"))


def pytest_unconfigure() -> None:
    """End what the tests shared, and remove the run directories of all servers of this session."""
    end_warm_process()
    shutil.rmtree(_STATE, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files that take longest first, so that all processes of scripts/test end at about the same time."""
    items.sort(
        key=lambda item: (
            item.path.name != "test_readme.py",
            item.path.parent.name != "live",
            item.path.name not in START_PROCESSES,
        )
    )
