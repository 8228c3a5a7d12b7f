"""Tensors of every kind that torch can save, beyond those in test_torch_file.py."""

import io
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from simplenet.checkpoint.reading import Global, StandIn, read_pickle, read_torch_zip
from simplenet.errors import NotACheckpointError

CPU = torch.device("cpu")


@pytest.fixture(params=["zip", "legacy"])
def through(request: pytest.FixtureRequest) -> Iterator[Any]:
    def save_and_read(value: Any) -> Any:
        buffer = io.BytesIO()
        torch.save(value, buffer, _use_new_zipfile_serialization=request.param == "zip")
        return (read_torch_zip if request.param == "zip" else read_pickle)(buffer, CPU, "file")

    return save_and_read


class Named(torch.Tensor):
    pass


def test_subclasses_parameters_and_buffers_are_plain_tensors(through: Any) -> None:
    named = torch.ones(2).as_subclass(Named)
    named.label = "weights"  # type: ignore[attr-defined]
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.label = "bias"  # type: ignore[attr-defined]
    attributed = torch.ones(2)
    attributed.label = "tensor"  # type: ignore[attr-defined]
    value = [named, parameter, torch.nn.Buffer(torch.ones(2)), attributed, torch.ones(2, requires_grad=True)]
    for found in through(value):
        assert type(found) is torch.Tensor
        assert torch.equal(found, torch.ones(2))
        assert not found.requires_grad
        assert not hasattr(found, "label")


def test_a_state_dict_is_a_dict(through: Any) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    found = through(network.state_dict())
    assert type(found) is dict
    assert list(found) == list(network.state_dict())
    assert all(torch.equal(found[key], value) for key, value in network.state_dict().items())


def test_an_optimizer_keeps_its_state(through: Any) -> None:
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    found = through(optimizer.state_dict())
    assert torch.equal(found["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])
    whole = through(optimizer)
    assert whole.qualified_name == "torch.optim.adam.Adam"
    assert all(isinstance(key, torch.Tensor) for key in whole.state["state"])


@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc])
@pytest.mark.filterwarnings("ignore:Sparse")
def test_sparse_tensors_are_read(through: Any, layout: torch.layout) -> None:
    dense = torch.tensor([[0.0, 1, 0], [2, 0, 0]])
    found = through(dense.to_sparse(layout=layout))
    assert found.layout == layout
    assert torch.equal(found.to_dense(), dense)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "torch._utils._rebuild_qtensor"),
        (lambda: torch.ones(2, device="meta"), "torch._utils._rebuild_meta_tensor_no_storage"),
        (lambda: torch.nested.nested_tensor([torch.ones(2)]), "torch._utils._rebuild_nested_tensor"),
        (torch.nn.UninitializedParameter, "torch.nn.parameter.UninitializedParameter"),
        (lambda: torch.ones(2).untyped_storage(), "torch.storage.UntypedStorage"),
        (lambda: torch.ones(2).storage(), "torch.FloatStorage"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_plain_tensor_is_told_by_its_name(through: Any, make: Any, name: str) -> None:
    found = through([make(), "text"])
    assert isinstance(found[0], StandIn)
    assert found[0].qualified_name == name
    assert found[1] == "text"


def test_shared_storages_stay_shared(through: Any) -> None:
    base = torch.arange(10.0)
    found = through({"all": base, "part": base[2:4], "again": base})
    found["all"][2] = 99
    assert found["part"][0] == 99
    assert found["again"] is found["all"]


def test_classes_and_functions_are_named(through: Any) -> None:
    found = through([torch.nn.Linear, torch.relu, dict])
    assert all(isinstance(item, Global) for item in found)
    assert found[0].qualified_name == "torch.nn.modules.linear.Linear"
    assert not any(callable(item) for item in found)


def test_views_of_a_storage_in_the_old_format() -> None:
    """As torch 0.3 wrote them: a view names the storage it lies in."""
    pickles = [pickle.dumps(item, 2) for item in (0x1950A86A20F9469CFC6C, 1001, {})]
    identity = b"(S'storage'\nctorch\nFloatStorage\nS'7'\nS'cpu'\nK\x06(S'8'\nK\x02K\x03ttQ"
    for view, message in ((identity, None), (identity.replace(b"K\x03", b"K\x05"), "found one beyond them")):
        tensor = b"ctorch._utils\n_rebuild_tensor\n(" + view + b"K\x01(K\x02t(K\x01ttR."
        data = b"".join([*pickles, tensor, pickle.dumps(["7"], 2), (6).to_bytes(8, "little")])
        file = io.BytesIO(data + np.arange(6, dtype="<f4").tobytes())
        if message is None:
            assert read_pickle(file, CPU, "file").tolist() == [3, 4]
        else:
            with pytest.raises(NotACheckpointError, match=message):
                read_pickle(file, CPU, "file")


def test_a_long_pickle_in_the_old_format_is_read() -> None:
    """Longer than the part of the file that is looked at first."""
    value = {"text": "x" * (5 << 20), "weights": torch.arange(4.0)}
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    found = read_pickle(buffer, CPU, "file")
    assert found["text"] == value["text"]
    assert torch.equal(found["weights"], torch.arange(4.0))


@pytest.mark.parametrize("function", ["_rebuild_device_tensor_from_numpy", "_rebuild_xla_tensor"])
def test_tensors_of_devices_without_storages_are_read(function: str) -> None:
    args = (np.arange(3.0), torch.float32, "xla:0", False)
    data = f"ctorch._utils\n{function}\n".encode() + pickle.dumps(args, 2)[2:-1] + b"R."
    found = read_pickle(io.BytesIO(data), CPU, "file")
    assert found.dtype == torch.float32
    assert found.tolist() == [0, 1, 2]
