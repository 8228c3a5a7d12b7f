"""Every kind of file through the doors: what is served gives the same logits, what is refused says why in one line."""

import re
from pathlib import Path

import pytest
import torch
from foreign_files import REFUSED, SERVED

from simplenet.archive import create_archive
from simplenet.checkpoint import load_model_for_inference, safe_load_model, smart_load
from simplenet.checkpoint.certify import certify
from simplenet.checkpoint.diff import diff
from simplenet.checkpoint.load import load_any
from simplenet.checkpoint.repair import repair
from simplenet.checkpoint.verify import require_whole
from simplenet.errors import CheckpointError
from simplenet.inspection import describe
from simplenet.model import SimpleNet

ROUGH = ("float16", "mixed dtypes", "bfloat16")


@pytest.fixture(scope="module")
def model() -> SimpleNet:
    torch.manual_seed(0)
    return SimpleNet(12, 8, 3).eval()


@pytest.mark.parametrize("kind", SERVED)
def test_the_weights_are_found_and_give_the_same_logits(model, tmp_path, kind):
    path = tmp_path / "theirs.bin"
    SERVED[kind](model, path)
    adopted = load_any(path)
    rows = torch.rand(5, 12)
    dtype = adopted.model.fc1.weight.dtype
    tolerance = 0.05 if kind in ROUGH else 1e-5
    assert torch.allclose(adopted.model(rows.to(dtype)).float(), model(rows), atol=tolerance)
    assert adopted.notes
    assert all(len(note.splitlines()) == 1 for note in adopted.notes)
    assert adopted.checkpoint["metadata"]["repairs"] == list(adopted.notes)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_served_is_named_with_a_remedy(model, tmp_path, kind):
    path = tmp_path / "theirs.bin"
    make, words = REFUSED[kind]
    make(model, path)
    with pytest.raises(CheckpointError) as caught:
        load_any(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message.splitlines()) == 1
    assert re.search(words, message), message
    assert "weights_only=False" not in message


ARTICLE = {
    "state_dict": lambda model, optimizer: model.state_dict(),
    "training": lambda model, optimizer: {
        "epoch": 5,
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "loss": 0.25,
    },
    "inference": lambda model, optimizer: {
        "model_state_dict": model.state_dict(),
        "model_config": {"input_size": 12, "hidden_size": 8, "num_classes": 3},
    },
    "versioned": lambda model, optimizer: {
        "model_state_dict": model.state_dict(),
        "model_config": {"input_size": 12, "hidden_size": 8, "num_classes": 3},
        "metadata": {"timestamp": "20260101_000000", "pytorch_version": torch.__version__, "accuracy": 0.97},
    },
    "whole model": lambda model, optimizer: model,
}


@pytest.fixture(params=ARTICLE)
def article_file(request, model, tmp_path) -> Path:
    """A file of the article, written by its own plain torch code."""
    from foreign_files import plain

    network = plain(model)
    path = tmp_path / "article.pt"
    torch.save(ARTICLE[request.param](network, torch.optim.Adam(network.parameters())), path)
    return path


def test_the_files_of_the_article_go_through_every_door(article_file, model, tmp_path):
    rows = torch.rand(5, 12)
    expected = model(rows)
    assert torch.allclose(load_model_for_inference(article_file)(rows), expected)
    assert torch.allclose(smart_load(article_file)[0].cpu()(rows), expected)
    assert torch.allclose(safe_load_model(SimpleNet, article_file)(rows), expected)
    assert diff(article_file, article_file).layers == {}
    before = article_file.read_bytes()
    assert certify(article_file).rows[0].top1_agreement == 1
    assert article_file.read_bytes() == before
    packed = create_archive(article_file, export_path=tmp_path / "store")
    assert torch.equal(load_model_for_inference(packed)(rows), expected)
    description = describe(article_file)
    assert description.problem is None
    assert description.model_config == model.config.to_dict()
    assert any("content hash" in finding for finding in description.findings)
    repair(article_file, tmp_path / "whole.pt")
    require_whole("whole.pt", describe(tmp_path / "whole.pt").findings)
    assert torch.equal(load_model_for_inference(tmp_path / "whole.pt", strict=True)(rows), expected)


def test_strict_refuses_what_was_not_saved_whole(article_file):
    with pytest.raises(CheckpointError, match=r"--strict.*no content hash"):
        load_model_for_inference(article_file, strict=True)


def test_of_several_weights_one_is_taken_and_the_key_takes_another(model, tmp_path):
    doubled = {name: tensor * 2 for name, tensor in model.state_dict().items()}
    torch.save({"state_dict_ema": doubled, "state_dict": model.state_dict()}, tmp_path / "two.pt")
    adopted = load_any(tmp_path / "two.pt")
    assert any("state_dict_ema" in note and "--key" in note for note in adopted.notes)
    assert torch.equal(adopted.model.fc1.weight, model.fc1.weight)
    other = load_model_for_inference(tmp_path / "two.pt", key="state_dict_ema")
    assert torch.equal(other.fc1.weight, model.fc1.weight * 2)
    with pytest.raises(CheckpointError, match=r"--key: expected one of 'state_dict', 'state_dict_ema', found 'net'"):
        load_model_for_inference(tmp_path / "two.pt", key="net")
