"""Files as other programs write them, by kind: each function saves the weights of a SimpleNet in its own way."""

import argparse
import bz2
import collections
import copy
import dataclasses
import datetime
import enum
import functools
import gzip
import io
import json
import lzma
import pathlib
import pickle
import random
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import nn

Make = Callable[[nn.Module, Any], None]  # of a network and the path to write to


@dataclasses.dataclass
class TrainConfig:
    lr: float = 0.1
    sizes: tuple[int, ...] = (1, 2)


class Colour(enum.Enum):
    RED = 1


class AttributeDict(dict):
    """A dict with attributes, as Lightning, EasyDict and others have them."""

    def __setstate__(self, state: Any) -> None:
        self.update(state)


class Plain(nn.Module):
    """The network of the article: SimpleNet in plain torch, without a config."""

    def __init__(self, input_size: int = 784, hidden_size: int = 256, num_classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(input_size, hidden_size)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(hidden_size, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.relu(self.fc1(x)))


def plain(model: nn.Module) -> Plain:
    """The same network as an object of plain torch."""
    twin = Plain(model.fc1.in_features, model.fc1.out_features, model.fc2.out_features)
    twin.load_state_dict(model.state_dict())
    return twin


def renamed(model: nn.Module, **names: str) -> dict[str, torch.Tensor]:
    """The state_dict with other names for the layers."""
    return {f"{names[name.split('.')[0]]}.{name.split('.')[1]}": t for name, t in model.state_dict().items()}


def prefixed(model: nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}


def saves(contents: Callable[[nn.Module], Any], **options: Any) -> Make:
    """A kind that torch.save writes."""
    return lambda model, path: torch.save(contents(model), path, **options)


def beside(extra: Any) -> Make:
    """A kind that has something else beside the weights."""
    return saves(lambda model: {"state_dict": model.state_dict(), "extra": extra, "epoch": 3})


def trained(model: nn.Module, **more: Any) -> dict[str, Any]:
    """A training checkpoint with an optimizer that has taken a step."""
    twin = plain(model)
    optimizer = torch.optim.Adam(twin.parameters())
    twin(torch.rand(4, twin.fc1.in_features)).sum().backward()
    optimizer.step()
    return {"optimizer_state_dict": optimizer.state_dict(), "epoch": 5, "loss": 0.25, **more}


def written(data: Callable[[bytes], bytes]) -> Make:
    """A kind that wraps the bytes of a torch file."""

    def make(model: nn.Module, path: Any) -> None:
        buffer = io.BytesIO()
        torch.save(model.state_dict(), buffer)
        pathlib.Path(path).write_bytes(data(buffer.getvalue()))

    return make


def zipped(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("run/model.pt", data)
        file.writestr("run/README.md", "how it was trained")
    return buffer.getvalue()


def tarred(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        member = tarfile.TarInfo("run/model.pt")
        member.size = len(data)
        file.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def with_layer(model: nn.Module, change: Callable[[nn.Module], Any]) -> dict[str, torch.Tensor]:
    """The state_dict after `change` of the first layer of a plain copy."""
    twin = plain(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        change(twin.fc1)
    return dict(twin.eval().state_dict())


def pruned(model: nn.Module) -> dict[str, torch.Tensor]:
    """Weights with a mask that prunes nothing, so that the logits stay."""
    from torch.nn.utils import prune

    return with_layer(model, lambda layer: prune.identity(layer, "weight"))


def averaged(model: nn.Module) -> Any:
    return torch.optim.swa_utils.AveragedModel(plain(model)).state_dict()


def lightning(state_dict: dict[str, torch.Tensor], hyper: Any) -> dict[str, Any]:
    return {
        "epoch": 2, "global_step": 20, "pytorch-lightning_version": "2.5.0", "state_dict": state_dict,
        "loops": {"fit_loop": {"state_dict": {}}}, "callbacks": {}, "optimizer_states": [], "lr_schedulers": [],
        "hparams_name": "kwargs", "hyper_parameters": hyper,
    }  # fmt: skip


def numpy_state(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def dumped(contents: Callable[[nn.Module], Any], protocol: int) -> Make:
    def make(model: nn.Module, path: Any) -> None:
        with pathlib.Path(path).open("wb") as file:
            pickle.dump(contents(model), file, protocol=protocol)

    return make


def npz(model: nn.Module, path: Any) -> None:
    with pathlib.Path(path).open("wb") as file:
        np.savez(file, **numpy_state(model))


SERVED: dict[str, Make] = {
    "state_dict": saves(lambda m: m.state_dict()),
    # Where the weights are.
    "key net": saves(lambda m: {"net": m.state_dict(), "acc": 97.0}),
    "key weights, model is a name": saves(lambda m: {"model": "mlp", "weights": m.state_dict()}),
    "key params_ema only": saves(lambda m: {"params_ema": m.state_dict()}),
    "any key": saves(lambda m: {"was_auch_immer": m.state_dict()}),
    "nested": saves(lambda m: {"checkpoint": {"model": m.state_dict(), "epoch": 3}}),
    "deep": saves(lambda m: {"a": [{"b": ({"c": m.state_dict()},)}]}),
    "a list": saves(lambda m: [m.state_dict()]),
    "a tuple with an optimizer": saves(lambda m: (m.state_dict(), trained(m)["optimizer_state_dict"], 3)),
    "flat with epoch": saves(lambda m: {**m.state_dict(), "epoch": 3}),
    "a dict a layer": saves(lambda m: {n: dict(layer.state_dict()) for n, layer in m.named_children() if n != "relu"}),
    "training checkpoint": saves(lambda m: trained(m, model_state_dict=m.state_dict())),
    "with an average": saves(
        lambda m: {"state_dict_ema": {n: t * 2 for n, t in m.state_dict().items()}, "state_dict": m.state_dict()}
    ),
    "mmengine": saves(lambda m: {"meta": {"epoch": 3}, "state_dict": m.state_dict(), "message_hub": {}}),
    # Names.
    **{
        f"prefix {prefix}": saves(lambda m, prefix=prefix: prefixed(m, prefix))
        for prefix in (
            *("module.", "_orig_mod.", "module._orig_mod.", "model.", "net.", "mlp.", "_fsdp_wrapped_module."),
            *("model._orig_mod.", "_forward_module.model.", "encoder.head.", "ema_model.", "module.model.module."),
        )
    },
    "checkpoint wrapper": saves(
        lambda m: {n.replace("fc1.", "fc1._checkpoint_wrapped_module."): t for n, t in m.state_dict().items()}
    ),
    "SWA": saves(averaged),
    "thop": saves(lambda m: {**m.state_dict(), "total_ops": torch.zeros(1), "fc1.total_params": torch.zeros(1)}),
    "Lightning": saves(lambda m: lightning(m.state_dict(), {"lr": 0.1})),
    "Lightning with a loss": saves(
        lambda m: lightning({**prefixed(m, "model."), "loss_fn.weight": torch.ones(3)}, {"lr": 0.1})
    ),
    "Lightning, AttributeDict": saves(lambda m: lightning(prefixed(m, "net."), AttributeDict(lr=0.1))),
    "EMA beside it": saves(
        lambda m: {
            **prefixed(m, "model."),
            **{f"ema_model.{n}": t * 2 for n, t in m.state_dict().items()},
            "initted": torch.tensor(True),
        }
    ),
    "Sequential": saves(lambda m: renamed(m, fc1="0", fc2="2")),
    "linear1": saves(lambda m: renamed(m, fc1="linear1", fc2="linear2")),
    "layers.0": saves(lambda m: renamed(m, fc1="layers.0", fc2="layers.3")),
    "tutorial": saves(lambda m: renamed(m, fc1="linear_relu_stack.0", fc2="linear_relu_stack.2")),
    "hidden, output": saves(lambda m: renamed(m, fc1="hidden", fc2="output")),
    "sorted against the order": lambda m, p: safetensors.torch.save_file(renamed(m, fc1="stem", fc2="classifier"), p),
    # Reparametrizations that are plain arithmetic.
    "weight_norm": saves(lambda m: with_layer(m, nn.utils.weight_norm)),
    "weight_norm, parametrized": saves(lambda m: with_layer(m, nn.utils.parametrizations.weight_norm)),
    "pruned": saves(pruned),
    # What lies beside the weights.
    **{
        f"beside {type(extra).__name__}": beside(extra)
        for extra in (
            *(np.float64(0.5), np.float32(0.5), np.arange(6.0), np.random.RandomState(0).get_state()),
            *(random.getstate(), argparse.Namespace(lr=0.1), pathlib.PurePosixPath("a/b")),
            *(pathlib.PureWindowsPath("a\\b"), collections.defaultdict(list, a=[1]), collections.Counter("aab")),
            *({1, 2}, frozenset({1}), TrainConfig(), Colour.RED, functools.partial(print, 1), AttributeDict(lr=0.1)),
            *(torch.device("cpu"), b"abc", nn.CrossEntropyLoss(weight=torch.ones(3)), datetime.datetime(2026, 1, 1)),
            *(datetime.timedelta(1), complex(1, 2), torch.float16, torch.Size([1, 2]), range(3), slice(1, 2), 10**30),
            *([None, float("nan")], bytearray(b"x"), collections.deque([1]), torch.__version__, TrainConfig),
        )
    },
    "beside an optimizer object": saves(
        lambda m: {"state_dict": m.state_dict(), "optimizer": torch.optim.SGD(plain(m).parameters(), lr=0.1)}
    ),
    # Whole pickled networks.
    "whole model": saves(plain),
    "whole model in a dict": saves(lambda m: {"model": plain(m), "epoch": 3}),
    "whole Sequential": saves(lambda m: nn.Sequential(copy.deepcopy(m.fc1), nn.ReLU(), copy.deepcopy(m.fc2))),
    "whole DataParallel": saves(lambda m: nn.DataParallel(plain(m))),
    "whole, legacy": saves(plain, _use_new_zipfile_serialization=False),
    "whole, pickle.dump": dumped(plain, 4),
    # Formats.
    "legacy": saves(lambda m: m.state_dict(), _use_new_zipfile_serialization=False),
    "legacy, NumPy scalar": saves(
        lambda m: {"state_dict": m.state_dict(), "best": np.float64(0.5)}, _use_new_zipfile_serialization=False
    ),
    **{f"protocol {p}": saves(lambda m: m.state_dict(), pickle_protocol=p) for p in (3, 4, 5)},
    **{f"pickle.dump {p}": dumped(lambda m: m.state_dict(), p) for p in (0, 2, 5)},
    **{f"pickle.dump of arrays {p}": dumped(numpy_state, p) for p in range(6)},
    "npz": npz,
    "gzip": written(gzip.compress),
    "bz2": written(bz2.compress),
    "xz": written(lzma.compress),
    "in a zip": written(zipped),
    "in a tar.gz": written(tarred),
    "safetensors": lambda m, p: safetensors.torch.save_file(m.state_dict(), p),
    "safetensors with words": lambda m, p: safetensors.torch.save_file(
        m.state_dict(), p, metadata={"format": "pt", "classes": "ten digits", "metadata": "mine"}
    ),
    # Dtypes and layouts.
    **{
        f"{dtype}".removeprefix("torch."): saves(lambda m, d=dtype: {n: t.to(d) for n, t in m.state_dict().items()})
        for dtype in (torch.float16, torch.bfloat16, torch.float64)
    },
    "mixed dtypes": saves(
        lambda m: {n: t.to(torch.bfloat16 if "fc1" in n else torch.float32) for n, t in m.state_dict().items()}
    ),
    "NumPy arrays": saves(numpy_state),
    "Parameters": saves(lambda m: m.state_dict(keep_vars=True)),
    "not contiguous": saves(lambda m: {n: t.t().contiguous().t() for n, t in m.state_dict().items()}),
    "sparse": saves(lambda m: {n: t.to_sparse() if t.ndim == 2 else t for n, t in m.state_dict().items()}),
    "views of one storage": saves(
        lambda m: dict(zip(m.state_dict(), _views(list(m.state_dict().values())), strict=True))
    ),
    # What others store under our keys.
    "their config": saves(lambda m: {"model_state_dict": m.state_dict(), "model_config": {"input_dim": 12}}),
    "more config": saves(
        lambda m: {"model_state_dict": m.state_dict(), "model_config": {**m.config.to_dict(), "dropout": 0.2}}
    ),
    "config with a list": saves(
        lambda m: {"model_state_dict": m.state_dict(), "model_config": {**m.config.to_dict(), "hidden_size": [8]}}
    ),
    "config of another head": saves(
        lambda m: {"model_state_dict": m.state_dict(), "model_config": {**m.config.to_dict(), "num_classes": 1000}}
    ),
    "config as text": saves(lambda m: {"model_state_dict": m.state_dict(), "model_config": "mlp"}),
    "metadata as text": saves(lambda m: {"model_state_dict": m.state_dict(), "metadata": "my run"}),
    "metadata with a path": saves(
        lambda m: {"model_state_dict": m.state_dict(), "metadata": {"path": pathlib.PurePosixPath("a"), "repairs": "x"}}
    ),
    "golden is None": saves(lambda m: {"model_state_dict": m.state_dict(), "golden": None}),
    "classes as a count": saves(lambda m: {"state_dict": m.state_dict(), "classes": 3}),
    "classes as a tensor": saves(lambda m: {"state_dict": m.state_dict(), "classes": torch.arange(3)}),
}


def _views(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    pieces = flat.split([tensor.numel() for tensor in tensors])
    return [piece.view(tensor.shape) for piece, tensor in zip(pieces, tensors, strict=True)]


def script(model: nn.Module, path: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(nn.Sequential(model.fc1, nn.ReLU(), model.fc2)).save(str(path))


def text(content: str) -> Make:
    return lambda model, path: pathlib.Path(path).write_text(content)


# Kinds that are refused, with words that the one line must have: what the file is, and what to do.
REFUSED: dict[str, tuple[Make, str]] = {
    "one tensor": (saves(lambda m: torch.zeros(3)), r"a single tensor .*; save model\.state_dict\(\)"),
    "an empty dict": (saves(lambda m: {}), r"an empty dict; save model\.state_dict\(\)"),
    "TorchScript": (script, r"TorchScript.*torch\.jit\.load"),
    "HTML": (text("<!DOCTYPE html><html><title>Sign in</title></html>"), "HTML.*Sign in"),
    "XML": (text('<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'), "AccessDenied"),
    "JSON": (text('{"error": "Not found"}'), "JSON.*Not found"),
    "index of shards": (
        text(json.dumps({"metadata": {}, "weight_map": {"fc1.weight": "model-00001-of-00002.safetensors"}})),
        "model-00001-of-00002.safetensors",
    ),
    "plain text": (text("404: Not Found"), "404: Not Found"),
    "Git LFS": (
        text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"),
        "Git LFS.*git lfs pull",
    ),
    "zeros": (lambda m, p: pathlib.Path(p).write_bytes(bytes(4096)), "zero"),
    "int8": (saves(lambda m: {n: t.to(torch.int8) for n, t in m.state_dict().items()}), "fc1.weight.*int8"),
    "complex": (saves(lambda m: {n: t.to(torch.complex64) for n, t in m.state_dict().items()}), "complex"),
    "float8": (saves(lambda m: {n: t.to(torch.float8_e4m3fn) for n, t in m.state_dict().items()}), "float8"),
    "meta": (saves(lambda m: {n: t.to("meta") for n, t in m.state_dict().items()}), "meta"),
    "numbers as names": (saves(lambda m: dict(enumerate(m.state_dict().values()))), "keys of type int"),
    "bytes as names": (saves(lambda m: {n.encode(): t for n, t in m.state_dict().items()}), "keys of type bytes"),
}
