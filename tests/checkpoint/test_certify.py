"""The certificate: errors that can be measured again, and a file that is otherwise as it was."""

from datetime import datetime, timezone
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from simplenet import storage
from simplenet.archive import create_archive
from simplenet.checkpoint import load_model_for_inference, save_checkpoint, save_for_inference
from simplenet.checkpoint.certify import Certificate, Measurement, certify
from simplenet.checkpoint.file import read_checkpoint, write_checkpoint
from simplenet.cli.verbs import app
from simplenet.errors import ArchiveError, CheckpointError, CheckpointNotFoundError, ConfigError, HashMismatchError
from simplenet.inspection import describe
from simplenet.model import SimpleNet

ON_CPU = [(inputs, dtype) for dtype in ("float32", "bfloat16") for inputs in ("golden", "random")]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_for_inference(SimpleNet(20, 16, 4), tmp_path / "net.pt", {"accuracy": 0.9}, golden_inputs=torch.randn(5, 20))
    return tmp_path / "net.pt"


def on_cpu(certificate: Certificate) -> dict[tuple[str, str], Measurement]:
    return {(row.inputs, row.dtype): row for row in certificate.rows if row.device == "cpu"}


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def command(*arguments: str | Path) -> str:
    finished = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"}, catch_exceptions=False)
    assert finished.exit_code == 0
    return finished.output


def test_the_errors_are_those_that_arithmetic_by_hand_finds(saved):
    """Against matrix products in NumPy's float64; random rows drawn here from the same seed."""
    checkpoint = read_checkpoint(saved)
    weights = {name: tensor.numpy().astype("float64") for name, tensor in checkpoint["model_state_dict"].items()}
    rows = {
        "golden": checkpoint["golden"]["inputs"],
        "random": torch.rand(256, 20, generator=torch.Generator().manual_seed(0)),
    }
    measured = on_cpu(certify(saved))
    assert list(measured) == ON_CPU
    for (inputs, name), row in measured.items():
        dtype = getattr(torch, name)
        with torch.no_grad():
            logits = load_model_for_inference(saved).to(dtype)(rows[inputs].to(dtype)).double().numpy()
        hidden = (rows[inputs].numpy().astype("float64") @ weights["fc1.weight"].T + weights["fc1.bias"]).clip(0)
        exact = hidden @ weights["fc2.weight"].T + weights["fc2.bias"]
        error = abs(logits - exact).max()
        assert row.samples == len(exact)
        assert row.logit_error == pytest.approx(error, rel=1e-6)
        assert row.relative_error == pytest.approx(error / abs(exact).max(), rel=1e-6)
        shares = [torch.softmax(torch.from_numpy(values), 1) for values in (logits, exact)]
        assert row.probability_error == pytest.approx(float((shares[0] - shares[1]).abs().max()), rel=1e-6)
        assert row.top1_agreement == (logits.argmax(1) == exact.argmax(1)).mean()


def test_bfloat16_is_coarser_than_float32_and_both_are_as_exact_as_their_formats(trained_checkpoint, tmp_path):
    path = tmp_path / "digits.pt"
    path.write_bytes(trained_checkpoint.read_bytes())
    measured = on_cpu(certify(path))
    for inputs in ("golden", "random"):
        fine, coarse = measured[inputs, "float32"], measured[inputs, "bfloat16"]
        assert 0 < fine.relative_error < 1e-5 < coarse.relative_error < 0.05
        assert fine.probability_error < coarse.probability_error
    assert measured["golden", "float32"].top1_agreement == 1.0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_is_measured_too(saved):
    rows = [row for row in certify(saved).rows if row.device == torch.cuda.get_device_name()]
    assert [(row.inputs, row.dtype) for row in rows] == ON_CPU
    assert all(row.relative_error < (1e-5 if row.dtype == "float32" else 0.05) for row in rows)


def test_a_file_that_was_saved_in_half_precision_is_measured_from_what_it_holds(tmp_path):
    torch.manual_seed(0)
    save_for_inference(SimpleNet(20, 16, 4).to(torch.bfloat16), tmp_path / "half.pt")
    measured = on_cpu(certify(tmp_path / "half.pt"))
    assert measured["random", "float32"].logit_error < measured["random", "bfloat16"].logit_error
    assert describe(tmp_path / "half.pt").dtype == "bfloat16"


def test_the_certificate_is_all_that_changes(tmp_path):
    torch.manual_seed(0)
    model = SimpleNet(20, 16, 4)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(3, 20)).sum().backward()
    optimizer.step()
    path = tmp_path / "epoch.pt"
    save_checkpoint(model, optimizer, 3, 0.5, path, metadata={"accuracy": 0.9}, classes=list("abcd"))
    before = read_checkpoint(path)
    certificate = certify(path)
    after = read_checkpoint(path)
    assert after["metadata"].pop("certificate") == certificate.to_dict()
    assert same(before, after)
    assert [file.name for file in tmp_path.iterdir()] == ["epoch.pt"]
    assert certificate.content_hash == before["metadata"]["content_hash"]
    assert certificate.pytorch_version == torch.__version__
    age = datetime.now(timezone.utc) - datetime.fromisoformat(certificate.timestamp)
    assert 0 <= age.total_seconds() < 60


def test_a_second_certificate_replaces_the_first(saved):
    first = certify(saved)
    second = certify(saved)
    assert first.rows == second.rows
    assert read_checkpoint(saved)["metadata"]["certificate"] == second.to_dict()


def test_a_safetensors_file_is_certified_with_the_same_errors(saved, tmp_path):
    path = tmp_path / "net.safetensors"
    write_checkpoint(read_checkpoint(saved), path)
    assert certify(path).rows == certify(saved).rows
    assert describe(path).metadata == {**describe(saved).metadata, "certificate": certificate_of(path)}
    assert path.read_bytes()[8:9] == b"{"


def certificate_of(path: Path) -> dict:
    return read_checkpoint(path)["metadata"]["certificate"]


def test_an_archive_is_refused_and_left_as_it_was(saved, tmp_path):
    archive = create_archive(saved, export_path=tmp_path / "store")
    renamed = archive.rename(tmp_path / "archive.pt")
    before = renamed.read_bytes()
    with pytest.raises(CheckpointError, match=r"archive\.pt: expected a checkpoint, found an archive: certify first"):
        certify(renamed)
    assert renamed.read_bytes() == before


def test_an_archive_of_a_certified_checkpoint_carries_the_certificate(saved, tmp_path):
    certificate = certify(saved)
    assert describe(create_archive(saved, export_path=tmp_path)).metadata["certificate"] == certificate.to_dict()


def test_what_does_not_verify_is_not_certified(saved, tmp_path):
    with pytest.raises(CheckpointNotFoundError):
        certify(tmp_path / "none.pt")
    checkpoint = read_checkpoint(saved)
    checkpoint["model_state_dict"]["fc2.bias"][0] += 1
    write_checkpoint(checkpoint, saved)
    before = saved.read_bytes()
    with pytest.raises(HashMismatchError):
        certify(saved)
    assert saved.read_bytes() == before


class OnlyFloat32(nn.Module):
    def __init__(self, input_size: int, num_classes: int) -> None:
        super().__init__()
        self.config = {"input_size": input_size, "num_classes": num_classes}
        self.head = nn.Linear(input_size, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.float())


class Overflows(nn.Module):
    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.config = {"input_size": input_size}
        self.scale = nn.Parameter(torch.tensor(1e30, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale * 1e5 * 1e5 / self.scale


def test_ones_own_network_is_certified_by_its_class(tmp_path):
    class Own(SimpleNet):
        pass

    save_for_inference(Own(20, 16, 4), tmp_path / "own.pt")
    with pytest.raises(ConfigError, match="architecture"):
        certify(tmp_path / "own.pt")
    assert list(on_cpu(certify(tmp_path / "own.pt", Own))) == ON_CPU


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (OnlyFloat32(4, 3), "own.pt: the network cannot predict in float64 on cpu: RuntimeError: "),
        (Overflows(4), "own.pt: the network's logits in float32 on cpu are NaN or infinite"),
    ],
    ids=["only float32", "overflow"],
)
def test_a_network_that_cannot_be_measured_is_refused(tmp_path, network, message):
    save_for_inference(network, tmp_path / "own.pt")
    before = (tmp_path / "own.pt").read_bytes()
    with pytest.raises(CheckpointError, match=message):
        certify(tmp_path / "own.pt", type(network))
    assert (tmp_path / "own.pt").read_bytes() == before


def test_the_command_prints_the_table_and_inspect_shows_it(saved):
    printed = command("certify", saved)
    errors = [f"{row['logit_error']:.2g}" for row in certificate_of(saved)["rows"]]
    assert all(error in printed for error in errors)
    assert "256 random" in printed
    assert "5 golden" in printed
    shown = command("inspect", saved)
    rows = [line for line in shown.splitlines() if "metadata.certificate.rows[" in line]
    assert len(rows) == len(errors)
    assert "inputs golden, samples 5, device cpu, dtype float32, logit_error " in rows[0]


def test_the_command_takes_ones_own_network(tmp_path):
    module = tmp_path / "own_net.py"
    module.write_text("from simplenet import SimpleNet\n\nclass OwnNet(SimpleNet):\n    pass\n")
    config = {"input_size": 20, "hidden_size": 16, "num_classes": 4, "architecture": "OwnNet"}
    save_for_inference(SimpleNet(20, 16, 4), tmp_path / "own.pt", model_config=config)
    assert "256 random" in command("certify", tmp_path / "own.pt", "--model-file", module, "--model-class", "OwnNet")
    with pytest.raises(ArchiveError, match="OwnNet"):
        command("certify", tmp_path / "own.pt", "--model-file", module)


def test_a_checkpoint_in_a_bucket_is_certified_there(s3, saved, tmp_path):
    storage.upload(saved, "s3://models/net.pt")
    assert "256 random" in command("certify", "s3://models/net.pt")
    storage.download("s3://models/net.pt", tmp_path / "back.pt")
    rows = certificate_of(tmp_path / "back.pt")["rows"]
    assert [(row["inputs"], row["dtype"]) for row in rows if row["device"] == "cpu"] == ON_CPU
