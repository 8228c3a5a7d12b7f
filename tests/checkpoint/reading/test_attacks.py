"""No attack runs anything, imports anything or takes long: each ends in an error of one line or in inert data."""

import copy
import io
import os
import pickletools
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pickle_attacks import GREEDY, RUNNING, torch_zip

from simplenet.checkpoint.reading import Global, StandIn, read_pickle, read_torch_zip
from simplenet.checkpoint.reading.allowed import ALLOWED
from simplenet.errors import SimpleNetError

CPU = torch.device("cpu")
INERT = (
    torch.memory_format,
    torch.Size,
    Global,
    torch.Tensor,
    torch.dtype,
    torch.layout,
    torch.device,
    torch.qscheme,
    np.ndarray,
    np.generic,
    str,
    bytes,
    bytearray,
    int,
    float,
    complex,
    type(None),
)
# Python reports each of these to a hook, however it is reached.
FORBIDDEN = ("import", "exec", "compile", "open", "os.", "subprocess.", "socket.", "ctypes.", "pickle.", "marshal.")


class Watch:
    """What Python reported since `events` was set to a list; a hook cannot be removed, only ignored."""

    events: list[str] | None = None


def _hook(event: str, _: Any) -> None:
    if Watch.events is not None and event.startswith(FORBIDDEN):
        Watch.events.append(event)


sys.addaudithook(_hook)


def watched(read: Any, data: bytes) -> Any:
    """What reading gives, or its error; fails if anything ran."""
    before = set(sys.modules)
    Watch.events = events = []
    try:
        found = read(io.BytesIO(data), CPU, "file")
    except SimpleNetError as error:
        found = error
    finally:
        Watch.events = None
    assert events == []
    assert set(sys.modules) == before
    return found


def assert_inert(value: Any) -> None:
    """Nothing but data, however it is nested."""
    left, seen = [value], set()
    while left:
        item = left.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if type(item) in (dict, list, tuple, set, frozenset):
            left.extend(item.values() if isinstance(item, dict) else item)
        elif isinstance(item, StandIn):
            left.extend([item.args, item.kwargs, item.state, item.entries, item.items])
        else:
            assert isinstance(item, INERT), type(item)
            assert not callable(item)


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """Python imports a codec when it first needs it."""
    read_torch_zip(io.BytesIO(torch_zip(b"N.")), CPU, "file")


@pytest.fixture(autouse=True)
def canaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ran(*arguments: Any, **keywords: Any) -> None:
        pytest.fail(f"an attack ran {arguments}")

    monkeypatch.chdir(tmp_path)
    for module, name in ((os, "system"), (os, "popen"), (subprocess, "Popen"), (torch, "load")):
        monkeypatch.setattr(module, name, ran)


def outcome(found: Any) -> None:
    if isinstance(found, SimpleNetError):
        message = str(found)
        assert message.startswith("file: ")
        assert "\n" not in message
        assert len(message) < 400
        assert "weights_only" not in message
    else:
        assert_inert(found)
    assert not Path("canary").exists()


@pytest.mark.parametrize("name", RUNNING)
def test_an_attack_runs_nothing(name: str) -> None:
    outcome(watched(read_pickle, RUNNING[name]))
    outcome(watched(read_torch_zip, torch_zip(RUNNING[name])))


@pytest.mark.parametrize("name", GREEDY)
def test_a_greedy_pickle_is_refused_or_costs_little(name: str) -> None:
    outcome(watched(read_pickle, GREEDY[name]))
    outcome(watched(read_torch_zip, torch_zip(GREEDY[name])))


@pytest.mark.parametrize(
    ("name", "qualified_name"),
    [
        ("os.system", "os.system"),
        ("getattr chain", "__builtin__.getattr"),
        ("functools.partial", "functools.partial"),
        ("INST", "os.system"),
        ("OBJ", "os.system"),
        ("NEWOBJ", "os.system"),
        ("NEWOBJ_EX", "os.system"),
        ("STACK_GLOBAL from the memo", "os.system"),
        ("EXT1", "copyreg.extension 1"),
        ("__newobj__", "os.system"),
        ("_rebuild_from_type_v2", "torch._tensor._rebuild_from_type_v2"),
        ("codecs.encode", "_codecs.encode"),
        ("numpy object array", "numpy.ndarray"),
    ],
)
def test_the_caller_sees_the_name_of_what_was_not_called(name: str, qualified_name: str) -> None:
    found = watched(read_pickle, RUNNING[name])
    assert isinstance(found, StandIn)
    assert found.qualified_name == qualified_name


ARGUMENTS = [
    *(b"N", b"K\x00", b"K\x01", b"J\xff\xff\xff\xff", b"L99999999999999999999L\n", b"I01\n", b"F0.5\n", b"F1e400\n"),
    *(b"S'x'\n", b"S'f4'\n", b"S'O8'\n", b"S'latin1'\n", b"S'C'\n", b"C\x04abcd", b"]", b")", b"}", b"(K\x01K\x01t"),
    *(b"cos\nsystem\n", b"c__builtin__\ndict\n", b"ctorch\nfloat32\n", b"ctorch\nqint8\n", b"ctorch\nsparse_coo\n"),
    *(b"cnumpy\nndarray\n", b"cnumpy\ndtype\n(S'f4'\ntR", b"((K\x01K\x02t(K\x03K\x04tl", b"(N]t", b")2\x862\x86"),
    b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nK\x04tQ",
    b"ctorch._utils\n_rebuild_tensor\n((S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nK\x04tQK\x00(K\x04t(K\x01ttR",
]


def _tensor(*arguments: bytes, function: bytes = b"_rebuild_tensor_v2", numel: bytes = b"K\x04") -> bytes:
    storage = b"((S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\n" + numel + b"tQ"
    return b"ctorch._utils\n" + function + b"\n" + storage + b"".join(arguments) + b"I00\n}tR."


OPCODES = st.sampled_from([opcode.code.encode("latin-1") for opcode in pickletools.opcodes])
NAMES = st.sampled_from(sorted(ALLOWED)).map(lambda name: f"c{name[0]}\n{name[1]}\n".encode())
PIECES = OPCODES | NAMES | st.binary(max_size=4) | st.sampled_from([b"K\x01", b"(", b")", b"]", b"}", b"N", b"R", b"b"])


@given(st.lists(PIECES, max_size=40).map(b"".join))
def test_random_opcodes_run_nothing(data: bytes) -> None:
    outcome(watched(read_pickle, data + b"."))


@given(st.sampled_from(sorted(ALLOWED)), st.lists(st.sampled_from(ARGUMENTS), max_size=8), st.booleans())
def test_every_allowed_name_takes_any_arguments(name: tuple[str, str], arguments: list[bytes], state: bool) -> None:
    call = f"c{name[0]}\n{name[1]}\n".encode() + b"(" + b"".join(arguments) + b"tR"
    outcome(watched(read_torch_zip, torch_zip(call + (b"N(tb." if state else b"."), {"data/0": bytes(16)})))


EVIL_TENSORS = {
    "beyond its storage": (_tensor(b"K\x00", b"(K\x05t", b"(K\x01t"), "expected 5 elements of 4 bytes, found 16 bytes"),
    "an offset beyond it": (_tensor(b"K\x04", b"(K\x01t", b"(K\x01t"), "expected 5 elements"),
    "a stride beyond it": (_tensor(b"K\x00", b"(K\x02t", b"(K\x04t"), "expected 5 elements"),
    "expanded": (_tensor(b"K\x00", b"(J\xff\xff\xff\x7ft", b"(K\x00t"), "expected 2147483647 elements"),
    "a negative offset": (_tensor(b"J\xff\xff\xff\xff", b"(K\x01t", b"(K\x01t"), "expected a shape and an offset"),
    "a negative size": (_tensor(b"K\x00", b"(J\xff\xff\xff\xfft", b"(K\x01t"), "expected a shape and strides"),
    "a negative stride": (_tensor(b"K\x03", b"(K\x02t", b"(J\xff\xff\xff\xfft"), "expected a shape and strides"),
    "a size of text": (_tensor(b"K\x00", b"(S'4'\nt", b"(K\x01t"), "expected a shape and strides"),
    "a size of True": (_tensor(b"K\x00", b"(I01\nt", b"(K\x01t"), "expected a shape and strides"),
    "a huge size": (_tensor(b"K\x00", b"(L" + b"9" * 40 + b"L\nt", b"(K\x00t"), "expected a shape and strides"),
    "a huge product": (
        _tensor(b"K\x00", b"(K\x00" + b"L9000000000000000000L\n" * 3 + b"t", b"(K\x00K\x00K\x00K\x00t"),
        "expected a shape and an offset",
    ),
    "many axes": (_tensor(b"K\x00", b"(" + b"K\x01" * 99 + b"t", b"(" + b"K\x01" * 99 + b"t"), "a shape and an offset"),
    "a negative numel": (_tensor(b"K\x00", b"(K\x04t", b"(K\x01t", numel=b"J\xff\xff\xff\xff"), "persistent id"),
    "a huge numel": (_tensor(b"K\x00", b"(K\x04t", b"(K\x01t", numel=b"J\xff\xff\xff\x7f"), "found 16 bytes"),
}


@pytest.mark.parametrize("name", EVIL_TENSORS)
def test_a_tensor_that_claims_more_than_the_file_holds_is_refused(name: str) -> None:
    data, message = EVIL_TENSORS[name]
    found = watched(read_torch_zip, torch_zip(data, {"data/0": bytes(16)}))
    assert isinstance(found, SimpleNetError)
    assert message in str(found)


@pytest.mark.parametrize("key", ["../../etc/passwd", "/etc/passwd", "../data.pkl", "1", "..", "x" * 5000, "\x00"])
def test_the_key_of_a_storage_only_names_an_entry(key: str) -> None:
    data = b"(S'storage'\nctorch\nFloatStorage\nX" + len(key).to_bytes(4, "little") + key.encode() + b"S'cpu'\nK\x04tQ."
    found = watched(read_torch_zip, torch_zip(data, {"data/0": bytes(16)}))
    assert isinstance(found, SimpleNetError)
    assert "expected an entry" in str(found)
    outcome(found)


def test_sparse_indices_are_validated() -> None:
    buffer = io.BytesIO()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(torch.sparse_coo_tensor([[0, 5]], [1.0, 2.0], (6,), check_invariants=True), buffer)
    finally:
        torch.serialization.set_crc32_options(True)
    data = buffer.getvalue()
    assert torch.equal(watched(read_torch_zip, data).to_dense(), torch.tensor([1.0, 0, 0, 0, 0, 2]))
    indices = (0).to_bytes(8, "little") + (5).to_bytes(8, "little")
    assert data.count(indices) == 1
    found = watched(read_torch_zip, data.replace(indices, (0).to_bytes(8, "little") + (99).to_bytes(8, "little")))
    assert isinstance(found, SimpleNetError)
    assert "size" in str(found)


def test_entries_do_not_share_bytes() -> None:
    """Many entries that lie in one place of the file would fill the memory."""
    buffer = io.BytesIO(torch_zip(_pair(), {"data/0": bytes(1 << 16)}))
    with zipfile.ZipFile(buffer, "a") as archive:
        info = copy.copy(archive.getinfo("archive/data/0"))
        info.filename = info.orig_filename = "archive/data/1"
        archive.filelist.append(info)
        archive._didModify = True
    found = watched(read_torch_zip, buffer.getvalue())
    assert isinstance(found, SimpleNetError)
    outcome(found)


def test_a_small_zip_does_not_hold_a_long_pickle() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"(" + b"]" * 5_000_000 + b"l.")
    found = watched(read_torch_zip, buffer.getvalue())
    assert isinstance(found, SimpleNetError)
    assert "opcodes, found more" in str(found)


def test_a_file_inside_itself_is_read_a_few_times_at_most() -> None:
    found = watched(read_pickle, RUNNING["_load_from_bytes, deep"])
    assert isinstance(found, SimpleNetError)
    assert "expected a file inside a file a few times at most" in str(found)


def _pair() -> bytes:
    tensor = _tensor(b"K\x00", b"(M\x00\x40t", b"(K\x01t", numel=b"M\x00\x40")[:-1]
    return tensor + tensor.replace(b"S'0'", b"S'1'") + b"\x86."
