"""A worker answers as the bare network does on what it was trained on: shaped, normalised, its outputs understood."""

import zipfile

import numpy as np
import pytest
import torch
from own_networks import COLOUR_NET, MNIST_NET, MNIST_SHAPE, MNIST_STEPS, written

from simplenet.archive import create_archive
from simplenet.checkpoint import save_for_inference
from simplenet.checkpoint.file import read_checkpoint, write_checkpoint
from simplenet.errors import GoldenMismatchError, HashMismatchError
from simplenet.model import SimpleNet
from simplenet.preprocessing import PROBABILITIES, InputSpec
from simplenet.worker.model_spec import ModelSpec
from simplenet.worker.predictor import Predictor

CPU = torch.device("cpu")


def packed(folder, network, text, class_name, **described):
    """The network's archive, unpacked as TorchServe does, and the settings of its handler."""
    module = folder / "net.py"
    save_for_inference(network, folder / "net.pt", **described)
    archive = create_archive(folder / "net.pt", export_path=folder / "store", model_file=module, model_class=class_name)
    with zipfile.ZipFile(archive) as contents:
        contents.extractall(folder / "unpacked")
    return folder / "unpacked", {"model_class": class_name}


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    """The PyTorch example's network, and the folder of its unpacked archive."""
    folder = tmp_path_factory.mktemp("mnist")
    torch.manual_seed(3)
    network = written(folder, MNIST_NET, "Net")[1]()
    described = {"model_config": {}, "input_shape": MNIST_SHAPE, "preprocessing": MNIST_STEPS}
    return network.eval(), *packed(folder, network, MNIST_NET, "Net", **described)


def test_the_mnist_network_of_pytorchs_examples_answers_as_it_does_bare(mnist, digits):
    network, folder, settings = mnist
    checkpoint = read_checkpoint(folder / "checkpoint.pt")
    assert checkpoint["model_config"] == {"architecture": "Net"}
    assert checkpoint["input_shape"] == [1, 28, 28]
    assert checkpoint["preprocessing"] == {"scale": 1.0, "mean": [0.1307], "std": [0.3081]}
    assert checkpoint["output"] == "log_probabilities"
    predictor = Predictor.from_archive(folder, CPU, settings)
    assert predictor.spec == ModelSpec(784, tuple("0123456789"), (1, 28, 28))
    rows = digits[0][:20]
    predicted = predictor.predict([rows[:5].numpy(), rows[5:].numpy()])
    with torch.inference_mode():
        expected = network(((rows - 0.1307) / 0.3081).view(-1, 1, 28, 28)).exp()
    np.testing.assert_allclose(predicted, expected.numpy(), rtol=1e-4, atol=1e-6)
    assert predicted.dtype == np.float32
    np.testing.assert_allclose(predicted.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("key", "value", "large"),
    [
        ("preprocessing", {"scale": 1.0, "mean": [0.1307], "std": [0.3082]}, False),
        ("preprocessing", {"scale": 1.0, "mean": [0.13], "std": [0.3081]}, False),
        ("preprocessing", {"scale": 1.0, "mean": [0.5], "std": [0.5]}, True),
        ("preprocessing", None, True),
        ("input_shape", [28, 28], True),
        ("input_shape", None, True),
        ("output", "probabilities", True),
        ("output", None, False),
    ],
)
def test_what_was_changed_after_saving_stops_the_worker(mnist, tmp_path, key, value, large):
    _, folder, settings = mnist
    checkpoint = {**read_checkpoint(folder / "checkpoint.pt"), key: value}
    checkpoint = {name: entry for name, entry in checkpoint.items() if entry is not None}
    for name in ("MAR-INF/MANIFEST.json", "net.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    write_checkpoint(checkpoint, tmp_path / "checkpoint.pt")
    with pytest.raises(GoldenMismatchError if large else HashMismatchError) as caught:
        Predictor.from_archive(tmp_path, CPU, settings)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_colour_network_with_probabilities_out_is_not_softmaxed_again(tmp_path, dtype):
    torch.manual_seed(4)
    network = written(tmp_path, COLOUR_NET, "ColourNet")[1](channels=5).to(dtype).eval()
    steps = {"mean": [0.49, 0.48, 0.45], "std": [0.25, 0.24, 0.26]}
    described = {"model_config": {"channels": 5}, "input_shape": (3, 8, 10), "preprocessing": steps}
    predictor = Predictor.from_archive(*packed_for(tmp_path, network, described))
    assert predictor.output == PROBABILITIES
    assert predictor.dtype == dtype
    rows = torch.rand(6, 240)
    prepared = InputSpec.of((3, 8, 10), steps).prepare(rows).to(dtype)
    with torch.inference_mode():
        expected = network(prepared).float()
    np.testing.assert_allclose(predictor.predict([rows.numpy()]), expected.numpy(), atol=1e-5)


def packed_for(folder, network, described):
    unpacked, settings = packed(folder, network, COLOUR_NET, "ColourNet", **described)
    return unpacked, CPU, settings


def test_flat_rows_and_logits_take_the_path_without_preparation():
    plain = Predictor(SimpleNet(4, 8, 3).eval(), ModelSpec(4, ("a", "b", "c")), CPU)
    assert plain._run == plain._predict_rows
    shaped = Predictor(plain.model, plain.spec, CPU, inputs=InputSpec.of((4,)))
    assert shaped._run == shaped._predict_rows
    scaled = Predictor(plain.model, plain.spec, CPU, inputs=InputSpec.of(None, {"scale": 0.5}))
    rows = np.random.default_rng(0).random((3, 4), np.float32)
    np.testing.assert_allclose(scaled.predict([2 * rows]), plain.predict([rows]), rtol=1e-6)
