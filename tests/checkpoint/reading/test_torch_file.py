"""Files of every form that torch.save and pickle.dump write are read as torch.load and pickle.load read them."""

import argparse
import io
import pickle
import zipfile
from collections import Counter, OrderedDict, defaultdict, namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from simplenet.checkpoint.reading import StandIn, is_torch_zip, read_pickle, read_torch_zip
from simplenet.errors import HashMismatchError, NotACheckpointError, SimpleNetError, TruncatedCheckpointError

CPU = torch.device("cpu")
DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool, torch.uint16, torch.uint32),
    *(torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e8m0fnu),
]
# (a name, the arguments of torch.save)
FORMS: list[tuple[str, dict[str, Any]]] = [
    (f"{form}-{protocol}", {"pickle_protocol": protocol, **arguments})
    for form, arguments in (("zip", {}), ("legacy", {"_use_new_zipfile_serialization": False}))
    for protocol in (2, 3, 4, 5)
]


def saved(value: Any, **arguments: Any) -> io.BytesIO:
    buffer = io.BytesIO()
    torch.save(value, buffer, **arguments)
    buffer.seek(0)
    return buffer


def read(stream: io.BytesIO | Path, mapped: bool = False) -> Any:
    """Whatever the form."""
    if isinstance(stream, Path):
        with stream.open("rb") as file:
            if file.read(2) == b"PK":
                return read_torch_zip(file, CPU, str(stream), stream if mapped else None)
            return read_pickle(file, CPU, str(stream))
    return (read_torch_zip if stream.getvalue()[:2] == b"PK" else read_pickle)(stream, CPU, "file")


def same(left: Any, right: Any) -> bool:
    """Equal, of the same types, and NaN equal to NaN."""
    if isinstance(right, torch.Tensor):
        return (
            type(left) is torch.Tensor
            and left.dtype == right.dtype
            and left.layout == right.layout
            and left.shape == right.shape
            and not left.requires_grad
            and (left.layout != torch.strided or left.stride() == right.stride())
            and bits(left) == bits(right)
        )
    if isinstance(right, np.ndarray):
        native = right.astype(right.dtype.newbyteorder("="), order="K")
        return (
            type(left) is np.ndarray
            and left.dtype == native.dtype
            and left.shape == native.shape
            and (left.strides == native.strides and left.tobytes() == native.tobytes())
        )
    if isinstance(right, dict):
        return (
            type(left) is dict
            and list(map(repr, left)) == list(map(repr, right))
            and all(same(mine, theirs) for mine, theirs in zip(left.values(), right.values(), strict=True))
        )
    if isinstance(right, (list, tuple)):
        return type(left) is type(right) and len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and (left == right or repr(left) == repr(right))


def bits(tensor: torch.Tensor) -> bytes:
    dense = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
    dense = dense.resolve_conj().resolve_neg().flatten().clone(memory_format=torch.contiguous_format)
    return dense.view(torch.uint8).numpy().tobytes() if dense.numel() else b""


def numbers(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    count = int(np.prod(shape)) * dtype.itemsize
    raw = torch.arange(count).remainder(2 if dtype == torch.bool else 120).to(torch.uint8)
    return raw.view(dtype).reshape(shape)


def many_tensors() -> dict[str, Any]:
    base = torch.arange(24.0)
    values: dict[str, Any] = {str(dtype): numbers(dtype, 3, 4) for dtype in DTYPES}
    values |= {"base": base, "slice": base[3:9], "step": base[1::2], "matrix": base.reshape(4, 6).t()}
    values |= {"scalar": torch.tensor(7), "empty": torch.zeros(0, 3)}
    values |= {"past the end": torch.zeros(2, 3, 4)[2:, 3:, 4:], "parameter": torch.nn.Parameter(torch.ones(2))}
    values |= {"channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)}
    values |= {"conj": torch.tensor([1 + 2j]).conj(), "neg": torch._neg_view(torch.ones(2))}
    values |= {"coo": torch.eye(3).to_sparse(), "device": torch.device("cuda", 1), "dtype": torch.float16}
    values |= {"size": torch.zeros(2, 3).shape, "layout": torch.sparse_csr}
    return values


def plain_values() -> dict[str, Any]:
    return {
        "numbers": [0, -1, 255, 65536, 2**31, -(2**63), 2**1000, 1.5, -0.0, float("inf"), 1 + 2j, True, None],
        "text": ["", "a", "ünï", "\U0001f600", "x" * 300, "line\nfeed"],
        "bytes": [b"", b"\x00\xff", b"y" * 300, bytearray(b"z")],
        "nested": {"a": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)], 3: {None: [], 1.5: {}}, (1, "b"): "tuple"},
        "sets": [{1, 2}, {"a"}, set(), frozenset((1, 2))],
    }


@pytest.mark.parametrize(("name", "arguments"), FORMS, ids=[name for name, _ in FORMS])
def test_torch_files_are_read_as_torch_load_reads_them(tmp_path: Path, name: str, arguments: dict[str, Any]) -> None:
    value = {**many_tensors(), "plain": plain_values()}
    path = tmp_path / "file.pt"
    torch.save(value, path, **arguments)
    # torch.load does not read its own old format with a dtype of later years in it.
    expected = value if "legacy" in name else torch.load(path, weights_only=False)
    for mapped in (False, True):
        found = read(path, mapped)
        assert list(found) == list(expected)
        for key in expected:
            assert same(found[key], expected[key]), key
        assert found["base"].untyped_storage().data_ptr() == found["slice"].untyped_storage().data_ptr()
        found["base"][3] = 99
        assert found["slice"][0] == 99
    assert read(path)["base"][3] == 3


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_are_read_as_pickle_reads_them(protocol: int) -> None:
    arrays = [np.arange(6, dtype=code).reshape(2, 3) for code in ("f4", "<f8", ">f4", "i8", "u2", "c8")]
    arrays += [np.array(["ab", "c"]), np.array([b"x", b"yz"]), np.array([True, False]), np.zeros((0, 3)), np.array(3.0)]
    arrays += [np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.zeros(2000)]
    value = {
        "plain": plain_values(),
        "arrays": arrays,
        "scalars": [np.float32(1.5), np.int64(7), np.bool_(True)],
        "tensor": torch.arange(6.0).reshape(2, 3).t(),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    data = pickle.dumps(value, protocol)
    found = read(io.BytesIO(data))
    for key, expected in pickle.loads(data).items():
        assert same(found[key], expected), key
    assert all(array.flags.writeable for array in found["arrays"])


def test_kinds_of_dict_become_a_dict() -> None:
    value = [OrderedDict(a=1, b=2), defaultdict(list, a=[1]), Counter("abca")]
    for protocol in range(6):
        found = read(io.BytesIO(pickle.dumps(value, protocol)))
        assert found == [{"a": 1, "b": 2}, {"a": [1]}, {"a": 2, "b": 1, "c": 1}]
        assert {type(item) for item in found} == {dict}


class AttributeDict(dict[str, Any]):
    pass


class AttributeList(list[Any]):
    pass


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize("protocol", range(6))
def test_kinds_of_dict_list_and_tuple_of_others_keep_what_they_hold(protocol: int) -> None:
    mapping, sequence = AttributeDict(a=1), AttributeList([1, 2])
    mapping.b = 2  # type: ignore[attr-defined]
    found = read(io.BytesIO(pickle.dumps([mapping, sequence, Point(1, 2)], protocol)))
    assert [item.name for item in found] == ["AttributeDict", "AttributeList", "Point"]
    assert (found[0].entries, found[0].state) == ({"a": 1}, {"b": 2})
    assert found[1].items == [1, 2]
    assert tuple(found[2].args[-1:] if protocol < 2 else found[2].args) in {(1, 2), ((1, 2),)}


def test_constants_and_versions_of_torch_are_read() -> None:
    value = {"layout": torch.sparse_csr, "version": torch.__version__, "scheme": torch.per_tensor_affine}
    assert read(saved(value)) == value
    assert type(read(saved(value))["version"]) is str


def test_recursive_structures_are_kept() -> None:
    value: dict[str, Any] = {"list": []}
    value["list"].append(value)
    for protocol in range(6):
        found = read(io.BytesIO(pickle.dumps(value, protocol)))
        assert found["list"][0] is found


def test_a_whole_network_becomes_stand_ins_with_its_weights() -> None:
    network = torch.nn.Sequential(OrderedDict(fc=torch.nn.Linear(3, 2)))
    for arguments in (arguments for _, arguments in FORMS):
        found = read(saved({"model": network, "args": argparse.Namespace(lr=0.1)}, **arguments))
        assert found["args"].qualified_name == "argparse.Namespace"
        assert found["args"].state == {"lr": 0.1}
        assert found["model"].qualified_name == "torch.nn.modules.container.Sequential"
        layer = found["model"].state["_modules"]["fc"]
        assert isinstance(layer, StandIn)
        assert torch.equal(layer.state["_parameters"]["weight"], network.fc.weight)
        assert type(layer.state["_parameters"]["weight"]) is torch.Tensor


tensors = st.builds(
    lambda dtype, shape, start, step, view: view(numbers(dtype, *shape)[start::step]),
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 4), min_size=1, max_size=3),
    st.integers(0, 3),
    st.integers(1, 2),
    st.sampled_from(
        [lambda tensor: tensor, lambda tensor: tensor.transpose(0, -1), lambda tensor: [tensor, tensor[..., 1:]]]
    ),
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
anything = st.recursive(
    scalars | tensors,
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.integers(-(2**63), 2**63 - 1), inner) | st.tuples(inner, inner)
    ),
    max_leaves=12,
)


@given(anything, st.sampled_from(FORMS))
def test_anything_plain_is_read_as_torch_load_reads_it(value: Any, form: tuple[str, dict[str, Any]]) -> None:
    stream = saved([value, value], **form[1])
    assert same(read(stream), [value, value])
    if "legacy" not in form[0]:
        found = read(stream)
        stream.seek(0)
        assert same(found, torch.load(stream, weights_only=False))


@given(anything, st.integers(0, 5))
def test_anything_plain_is_read_as_pickle_reads_it(value: Any, protocol: int) -> None:
    assert same(read(io.BytesIO(pickle.dumps([value, value], protocol))), [value, value])


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_every_truncation_is_one_line(form: str) -> None:
    value = {"a": torch.arange(4.0), "b": [1, "x"]}
    stream = {
        "zip": lambda: saved(value),
        "legacy": lambda: saved(value, _use_new_zipfile_serialization=False),
        "pickle": lambda: io.BytesIO(pickle.dumps(value)),
    }[form]()
    data = stream.getvalue()
    for end in range(4, len(data)):
        with pytest.raises(SimpleNetError) as caught:
            read(io.BytesIO(data[:end]))
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith("file: ")
        assert isinstance(caught.value, (TruncatedCheckpointError, NotACheckpointError))


def test_a_damaged_storage_is_named(tmp_path: Path) -> None:
    for count in (4, 1 << 20):  # inline, and in a thread
        path = tmp_path / "file.pt"
        torch.save({"a": torch.zeros(8), "b": torch.full((count,), 5.0)}, path)
        data = bytearray(path.read_bytes())
        data[data.rindex(np.float32(5.0).tobytes() * 4) + 1] ^= 1
        path.write_bytes(data)
        with pytest.raises(HashMismatchError, match=r"file.pt: .*/data/1: damaged: expected CRC-32"):
            read(path)
        assert read(path, mapped=True)["a"].sum() == 0


def test_a_file_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.ones(8)}, tmp_path / "file.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert read(tmp_path / "file.pt")["a"].sum() == 8


def rezipped(stream: io.BytesIO, compression: int) -> io.BytesIO:
    packed = io.BytesIO()
    with zipfile.ZipFile(stream) as old, zipfile.ZipFile(packed, "w", compression) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return packed


def test_compressed_and_unaligned_entries_are_read(tmp_path: Path) -> None:
    value = {"a": torch.arange(1000.0), "b": torch.ones(5, dtype=torch.complex128)}
    for compression in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
        path = tmp_path / "file.pt"
        path.write_bytes(rezipped(saved(value), compression).getvalue())
        for mapped in (False, True):
            found = read(path, mapped)
            assert same(found, value)
            assert all(tensor.data_ptr() % tensor.element_size() == 0 for tensor in found.values())


def test_a_zip_bomb_is_refused() -> None:
    with pytest.raises(NotACheckpointError, match="expected a file of at most"):
        read(rezipped(saved({"a": torch.zeros(1 << 26)}), zipfile.ZIP_DEFLATED))


def test_numbers_of_a_big_endian_machine_are_swapped() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(saved({"a": torch.arange(4.0)})) as old, zipfile.ZipFile(packed, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename.endswith("byteorder"):
                data = b"big"
            if "/data/" in entry.filename:
                data = np.frombuffer(data, "<f4").byteswap().tobytes()
            new.writestr(entry.filename, data)
    assert same(read(packed), {"a": torch.arange(4.0)})


def test_torchscript_and_other_zips_are_told_apart(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "file.pt")
    assert is_torch_zip(zipfile.ZipFile(tmp_path / "file.pt").namelist())
    assert not is_torch_zip(["m/data.pkl", "m/constants.pkl"])
    assert not is_torch_zip(["m/data.pkl", "m/code/x.py"])
    assert not is_torch_zip(["weights.txt"])
    with pytest.raises(NotACheckpointError, match=r"expected a zip with one <name>/data.pkl, found 0"):
        read_torch_zip(rezipped(io.BytesIO(empty_zip()), 0), CPU, "file")


def empty_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("weights.txt", "none")
    return buffer.getvalue()


@pytest.mark.parametrize("protocol", [0, 2])
def test_data_behind_a_pickle_is_refused(protocol: int) -> None:
    with pytest.raises(NotACheckpointError, match="expected the end of the file after a pickle, found 3 more bytes"):
        read(io.BytesIO(pickle.dumps({}, protocol) + b"abc"))
