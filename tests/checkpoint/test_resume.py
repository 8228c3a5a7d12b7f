"""Training that goes on as if it had never stopped, and loads that change everything or nothing."""

import copy
import random
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim import lr_scheduler

from simplenet.checkpoint import load_checkpoint_for_training, save_checkpoint, save_for_inference
from simplenet.checkpoint.file import read_checkpoint, write_checkpoint
from simplenet.checkpoint.rng import rng_state
from simplenet.errors import CheckpointError, KeyMismatchError, NotACheckpointError, ShapeMismatchError
from simplenet.model import SimpleNet

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
OPTIMIZERS = {
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.01),
    "Adam amsgrad": lambda parameters: torch.optim.Adam(parameters, lr=0.01, amsgrad=True),
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
    "RMSprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.01, momentum=0.5),
    "LBFGS": lambda parameters: torch.optim.LBFGS(parameters, lr=0.1, max_iter=3),
    "Adagrad": lambda parameters: torch.optim.Adagrad(parameters, lr=0.01),
}
SCHEDULERS = {
    "OneCycleLR": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=50),
    "StepLR": lambda optimizer: lr_scheduler.StepLR(optimizer, 2, 0.5),
    "MultiStepLR": lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [2, 5], 0.5),
    "CosineAnnealingLR": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 20),
    "LambdaLR": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step),
    "CyclicLR": lambda optimizer: lr_scheduler.CyclicLR(optimizer, 0.01, 0.1, 3, cycle_momentum=False),
    "SequentialLR": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.LinearLR(optimizer, total_iters=2), lr_scheduler.ExponentialLR(optimizer, 0.9)],
        milestones=[2],
    ),
}


class Training:
    """A small training with dropout and data order, so that every random generator counts."""

    def __init__(self, optimizer: str = "AdamW", scheduler: str = "OneCycleLR", seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.model = SimpleNet(12, 8, 3)
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.scheduler = SCHEDULERS[scheduler](self.optimizer)
        self.generator = torch.Generator().manual_seed(seed)
        self.helpers = {"scheduler": self.scheduler, "generator": self.generator}

    def steps(self, number: int) -> None:
        for _ in range(number):
            rows = torch.rand(6, 12, generator=self.generator) + random.random() + float(np.random.rand())
            labels = torch.randint(3, (6,), generator=self.generator)
            self.optimizer.step(partial(self.loss, functional.dropout(rows, 0.3), labels))
            self.scheduler.step()

    def loss(self, rows: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss, its gradients computed: what LBFGS asks for several times a step."""
        self.optimizer.zero_grad()
        loss = functional.cross_entropy(self.model(rows), labels)
        loss.backward()
        return loss

    def save(self, path) -> None:
        save_checkpoint(self.model, self.optimizer, 4, 0.25, path, **self.helpers)

    def load(self, path, **helpers: object) -> tuple[nn.Module, torch.optim.Optimizer, int, float]:
        return load_checkpoint_for_training(self.model, self.optimizer, path, **(helpers or self.helpers))

    def everything(self) -> dict[str, object]:
        """All that a load may change, as bytes and plain values."""
        state = {
            "weights": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "random": rng_state(self.generator),
            "training": self.model.training,
        }
        return copy.deepcopy(state)


def same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return one == other or callable(one)


@pytest.fixture(autouse=True)
def seeded():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def saved(tmp_path):
    training = Training()
    training.steps(3)
    training.save(tmp_path / "epoch.pt")
    return tmp_path / "epoch.pt"


def changed(path, **entries: object):
    """The checkpoint with other entries; those that are None are left out."""
    checkpoint = {**read_checkpoint(path), **entries}
    write_checkpoint({key: value for key, value in checkpoint.items() if value is not None}, path)
    return path


@pytest.mark.parametrize(
    ("optimizer", "scheduler"),
    [*((name, "StepLR" if name in ("Adagrad", "LBFGS") else "OneCycleLR") for name in OPTIMIZERS)]
    + [("SGD", name) for name in SCHEDULERS],
)
def test_a_resumed_training_ends_in_the_same_bits(tmp_path, optimizer, scheduler):
    training = Training(optimizer, scheduler)
    training.steps(4)
    training.save(tmp_path / "epoch.pt")
    training.steps(4)
    expected = training.everything()
    resumed = Training(optimizer, scheduler, seed=9)
    random.seed(9), np.random.seed(9)
    assert resumed.load(tmp_path / "epoch.pt")[2:] == (4, 0.25)
    resumed.steps(4)
    assert same(resumed.everything(), expected)


def test_every_random_generator_goes_on_where_it_was(tmp_path):
    generator = torch.Generator().manual_seed(5)
    np.random.randn()  # so that NumPy keeps the second of a pair of Gaussians
    model = SimpleNet(12, 8, 3)
    optimizer = torch.optim.SGD(model.parameters())

    def draw() -> list[float]:
        one = torch.rand(1, generator=generator).item()
        return [random.random(), random.gauss(0, 1), np.random.randn(), np.random.rand(), torch.rand(1).item(), one]

    random.gauss(0, 1)  # and Python too
    save_checkpoint(model, optimizer, 1, 0.5, tmp_path / "epoch.pt", generator=generator)
    expected = draw()
    assert draw() != expected
    load_checkpoint_for_training(model, optimizer, tmp_path / "epoch.pt", generator=generator)
    assert draw() == expected


def test_saving_changes_nothing(tmp_path):
    training = Training()
    training.steps(2)
    before = training.everything()
    training.save(tmp_path / "epoch.pt")
    assert same(training.everything(), before)


def test_the_same_objects_come_back_and_the_parameters_are_the_optimizers(saved):
    training = Training(seed=3)
    training.model.eval()
    model, optimizer, epoch, loss = training.load(saved)
    assert model is training.model
    assert optimizer is training.optimizer
    assert (type(epoch), epoch, type(loss), loss) == (int, 4, float, 0.25)
    assert model.training
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in model.parameters()]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
def test_the_optimizers_state_is_where_the_network_is(saved, device):
    training = Training(seed=3)
    load_checkpoint_for_training(training.model, training.optimizer, saved, device)
    for parameter in training.model.parameters():
        assert parameter.device.type == device
        assert training.optimizer.state[parameter]["exp_avg"].device.type == device


def test_tensors_that_say_cuda_load_on_the_cpu(tmp_path, monkeypatch):
    training = Training()
    training.steps(3)
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        training.save(tmp_path / "epoch.pt")
    assert b"cuda:0" in (tmp_path / "epoch.pt").read_bytes()
    expected = training.everything()
    resumed = Training(seed=3)
    resumed.load(tmp_path / "epoch.pt")
    assert same(resumed.everything(), expected)


def scaled() -> torch.amp.GradScaler:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1)
    weight = torch.nn.Parameter(torch.ones(1))
    scaler.scale((weight * 2).sum()).backward()
    scaler.step(torch.optim.SGD([weight], lr=0.1))
    scaler.update()
    return scaler


def test_a_grad_scaler_goes_on_with_its_scale(tmp_path):
    training, scaler = Training(), scaled()
    save_checkpoint(training.model, training.optimizer, 1, 0.5, tmp_path / "epoch.pt", scaler=scaler)
    other = torch.amp.GradScaler("cpu")
    training.load(tmp_path / "epoch.pt", scaler=other)
    assert scaler.get_scale() == 2048.0
    assert other.state_dict() == scaler.state_dict()


def test_the_empty_state_of_a_disabled_scaler_leaves_another_as_it_is(tmp_path):
    training, disabled = Training(), torch.amp.GradScaler("cpu", enabled=False)
    save_checkpoint(training.model, training.optimizer, 1, 0.5, tmp_path / "epoch.pt", scaler=disabled)
    scaler = scaled()
    training.load(tmp_path / "epoch.pt", scaler=scaler)
    assert scaler.get_scale() == 2048.0


@pytest.mark.parametrize("helper", ["scheduler", "scaler", "generator"])
def test_a_helper_that_the_checkpoint_knows_nothing_of_is_named_and_nothing_is_changed(tmp_path, helper):
    training = Training()
    save_checkpoint(training.model, training.optimizer, 1, 0.5, tmp_path / "epoch.pt")
    resumed = Training(seed=3)
    before = resumed.everything()
    given = {"scaler": scaled(), **resumed.helpers}[helper]
    with pytest.raises(CheckpointError, match=helper):
        resumed.load(tmp_path / "epoch.pt", **{helper: given})
    assert same(resumed.everything(), before)


DAMAGE = {
    "weights": {"model_state_dict": {}},
    "no optimizer": {"optimizer_state_dict": None},
    "optimizer": {"optimizer_state_dict": 3},
    "no optimizer state": {"optimizer_state_dict": {"param_groups": [{"params": [0, 1, 2, 3]}], "state": 3}},
    "no groups": {"optimizer_state_dict": {"param_groups": [3], "state": {}}},
    "epoch": {"epoch": "4"},
    "loss": {"loss": None},
    "scheduler": {"scheduler_state_dict": 3},
    "random state": {"rng_state": 3},
    "empty random state": {"rng_state": {}},
    "golden alone": {"optimizer_state_dict": None, "epoch": None, "loss": None, "rng_state": None},
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_refused_and_nothing_is_changed(saved, damage):
    changed(saved, **DAMAGE[damage])
    resumed = Training(seed=3)
    resumed.steps(1)
    resumed.model.eval()
    before = resumed.everything()
    with pytest.raises(CheckpointError) as caught:
        resumed.load(saved)
    assert str(saved) in str(caught.value)
    assert same(resumed.everything(), before)


@pytest.mark.parametrize("part", ["python", "numpy", "torch", "generator"])
@pytest.mark.parametrize("value", [None, 3, torch.zeros(3, dtype=torch.uint8), {}], ids=repr)
def test_a_damaged_random_state_changes_nothing(saved, part, value):
    state = {**read_checkpoint(saved)["rng_state"], part: value}
    changed(saved, rng_state=state)
    resumed = Training(seed=3)
    before = resumed.everything()
    with pytest.raises(CheckpointError, match="rng_state: cannot be restored"):
        resumed.load(saved)
    assert same(resumed.everything(), before)


@pytest.mark.parametrize(
    ("model", "kind"),
    [(SimpleNet(12, 9, 3), ShapeMismatchError), (nn.Sequential(nn.Linear(12, 8), nn.Linear(8, 3)), KeyMismatchError)],
)
def test_another_network_is_refused_and_nothing_is_changed(saved, model, kind):
    before = copy.deepcopy(model.state_dict()), rng_state()
    with pytest.raises(kind):
        load_checkpoint_for_training(model, torch.optim.AdamW(model.parameters()), saved)
    assert same((model.state_dict(), rng_state()), before)


@pytest.mark.parametrize("optimizer", ["SGD", "RMSprop", "Adagrad", "LBFGS"])
def test_an_optimizer_of_another_kind_is_refused(saved, optimizer):
    resumed = Training(optimizer, "StepLR")
    before = resumed.everything()
    with pytest.raises(CheckpointError, match=r"of another kind than \w+: it has .*'betas'.* and lacks"):
        load_checkpoint_for_training(resumed.model, resumed.optimizer, saved)
    assert same(resumed.everything(), before)


def test_an_optimizer_over_other_parameters_is_refused(saved):
    model = SimpleNet(12, 8, 3)
    optimizer = torch.optim.AdamW(model.fc2.parameters())
    with pytest.raises(CheckpointError, match=r"expected groups of \[2\] parameters, found \[4\]"):
        load_checkpoint_for_training(model, optimizer, saved)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_named_and_nothing_is_changed(saved):
    resumed = Training(seed=3)
    before = resumed.everything()
    with pytest.raises(CheckpointError, match="cannot be loaded to 'cuda'"):
        load_checkpoint_for_training(resumed.model, resumed.optimizer, saved, "cuda")
    assert same(resumed.everything(), before)


def test_a_checkpoint_without_training_state_names_the_function_that_keeps_it(tmp_path):
    training = Training()
    save_for_inference(training.model, tmp_path / "net.pt")
    with pytest.raises(NotACheckpointError, match=r"missing 'optimizer_state_dict'.*simplenet\.save_checkpoint"):
        load_checkpoint_for_training(training.model, training.optimizer, tmp_path / "net.pt")


def test_a_safetensors_name_is_refused_because_it_would_lose_the_training_state(tmp_path):
    training = Training()
    with pytest.raises(CheckpointError, match=r"cannot keep the state of a training; save it as \.pt"):
        training.save(tmp_path / "epoch.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_wrapped_network_is_saved_and_resumed_as_the_bare_one(saved, tmp_path):
    training = Training(seed=3)
    wrapped = nn.DataParallel(training.model)
    load_checkpoint_for_training(wrapped, training.optimizer, saved)
    save_checkpoint(wrapped, training.optimizer, 5, torch.tensor(0.5), tmp_path / "wrapped.pt")
    assert list(read_checkpoint(tmp_path / "wrapped.pt")["model_state_dict"]) == list(training.model.state_dict())
    assert load_checkpoint_for_training(SimpleNet(12, 8, 3), Training().optimizer, tmp_path / "wrapped.pt")[3] == 0.5


def test_a_plain_state_dict_is_not_said_to_have_what_it_lacks(tmp_path, caplog):
    model = SimpleNet(4, 8, 3)
    path = tmp_path / "theirs.pt"
    torch.save(model.state_dict(), path)
    with pytest.raises(NotACheckpointError, match="missing 'optimizer_state_dict', 'epoch', 'loss'; found ") as caught:
        load_checkpoint_for_training(model, torch.optim.Adam(model.parameters()), path)
    assert "rng_state" not in str(caught.value)
    assert "random numbers" not in caplog.text
