import pytest
import torch

from simplenet.checkpoint import load_model_for_inference
from simplenet.content_hash import content_hash
from simplenet.errors import DataError
from simplenet.model import SimpleNet
from simplenet.training.trainer import Trainer, accuracy


def train(rows, labels, seed=0, epochs=1, on_batch=None):
    torch.manual_seed(0)  # the same first weights: `seed` is that of the order and the shifts
    model = SimpleNet(rows.shape[1], 16, 10)
    trainer = Trainer(model, rows, labels, epochs=epochs, seed=seed)
    for _ in range(epochs):
        trainer.run_epoch(on_batch)
    return trainer


def test_three_epochs_learn_the_digits(trained_checkpoint, digits):
    assert accuracy(load_model_for_inference(trained_checkpoint), *digits) > 0.9


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(digits):
    first, again, other = (content_hash(train(*digits, seed).model.state_dict()) for seed in (0, 0, 1))
    assert first == again != other


def test_progress_is_told_after_every_batch(digits):
    rows, labels = digits
    seen = []
    trainer = train(rows[:130], labels[:130], epochs=2, on_batch=seen.append)
    assert [(p.epoch, p.batch) for p in seen] == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]
    assert all(p.batches == 3 and p.epochs == 2 and 0 <= p.accuracy <= 1 for p in seen)
    assert seen[-1].loss == trainer.loss < seen[0].loss
    assert not trainer.model.training


def test_rows_that_are_no_images_train_too():
    rows = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    labels = (rows[:, 0] > 0).long()
    assert accuracy(train(rows, labels, epochs=100).model, rows, labels) > 0.9


@pytest.mark.parametrize(
    ("rows", "labels", "message"),
    [
        (torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), "rows: expected at least one, found none"),
        (torch.zeros(2, 5), torch.zeros(2, dtype=torch.long), "rows of 5 numbers do not fit SimpleNet"),
        (torch.zeros(2, 4), torch.tensor([0, 3]), "labels: expected 0 to 2, found 0 to 3"),
        (torch.zeros(2, 4), torch.tensor([-1, 0]), "labels: expected 0 to 2, found -1 to 0"),
    ],
)
def test_rows_and_labels_that_do_not_fit_are_refused(rows, labels, message):
    with pytest.raises(DataError, match=message) as caught:
        Trainer(SimpleNet(4, 8, 3), rows, labels)
    assert len(str(caught.value).splitlines()) == 1
