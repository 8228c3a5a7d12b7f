"""Name what a file that is no readable checkpoint is, and say what to do next; nothing in it is executed."""

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import IO

from simplenet.checkpoint.reading.kind import (
    COPY_WEIGHTS,
    DOWNLOAD,
    NAME_WEIGHTS,
    SAVE_WEIGHTS,
    Kind,
    beside,
    python_command,
    quoted_path,
)
from simplenet.checkpoint.reading.kinds_of_folder import kind_of_folder, merge_shards
from simplenet.checkpoint.reading.kinds_of_text import kind_of_text
from simplenet.checkpoint.reading.kinds_of_zip import kind_of_members
from simplenet.checkpoint.reading.numpy_files import DAMAGED
from simplenet.paths import PathLike

__all__ = ["Kind", "kind_of", "kind_of_file", "kind_of_stream"]

_ZIPS = (b"PK\x03\x04", b"PK\x05\x06")
_HEAD = 4096
_TAIL = 65_557  # the end record of a zip and the longest comment after it
_LONGEST_TEXT = 2**20  # bytes that are read of a JSON file, to see all that it names
_MAX_SAFETENSORS_HEADER = 100_000_000  # bytes; the format's own limit
_DOC = "a document or an image"
_UNPACK = "unpack it, and name the file in it that holds the weights"
_SQLITE_TABLE = f"data, not weights; {NAME_WEIGHTS}"
_QUANTIZED = "hand over the PyTorch or .safetensors checkpoint that it was converted from"
_MAGICS: tuple[tuple[int, bytes, str, str], ...] = (  # offset, bytes, name, remedy
    (0, b"GGUF", "a GGUF file of llama.cpp", _QUANTIZED),
    (0, b"lmgg", "a GGML file of llama.cpp", _QUANTIZED),
    (0, b"tjgg", "a GGML file of llama.cpp", _QUANTIZED),
    (4, b"TFL3", "a TensorFlow Lite model", COPY_WEIGHTS),
    (4, b"ET12", "an ExecuTorch program", SAVE_WEIGHTS),
    (0, b"ftrt", "a TensorRT engine", SAVE_WEIGHTS),
    (0, b"\x12\x01\0\0\0\0\0\0", "an MXNet parameter file", COPY_WEIGHTS),
    (0, b"MATLAB 5.0 MAT-file", "a MATLAB file", COPY_WEIGHTS),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a file compressed by zstd", "unpack it with unzstd FILE, and name what that writes"),
    (0, b"\x04\x22\x4d\x18", "a file compressed by lz4", "unpack it with unlz4 FILE, and name what that writes"),
    (0, b"\x1f\x8b", "a file compressed by gzip", _UNPACK),
    (0, b"BZh", "a file compressed by bzip2", _UNPACK),
    (0, b"\xfd7zXZ\0", "a file compressed by xz", _UNPACK),
    (0, b"\x89PNG\r\n\x1a\n", f"{_DOC} (PNG)", NAME_WEIGHTS),
    (0, b"\xff\xd8\xff", f"{_DOC} (JPEG)", NAME_WEIGHTS),
    (0, b"GIF8", f"{_DOC} (GIF)", NAME_WEIGHTS),
    (0, b"%PDF-", f"{_DOC} (PDF)", NAME_WEIGHTS),
    (0, b"\x7fELF", "a compiled program or library (ELF)", SAVE_WEIGHTS),
    (0, b"MZ", "a compiled program or library (Windows)", SAVE_WEIGHTS),
    (0, b"\xcf\xfa\xed\xfe", "a compiled program or library (macOS)", SAVE_WEIGHTS),
    (0, b"SQLite format 3\0", "an SQLite database", _SQLITE_TABLE),
    (0, b"PAR1", "a Parquet table", _SQLITE_TABLE),
    (0, b"ARROW1", "an Arrow table", _SQLITE_TABLE),
)
_SUFFIXES: dict[str, tuple[str, str]] = {  # for formats whose first bytes say little
    ".mlmodel": ("a CoreML model", SAVE_WEIGHTS),
    ".pb": ("a TensorFlow graph", COPY_WEIGHTS),
    ".pdiparams": ("PaddlePaddle parameters for inference", COPY_WEIGHTS),
    ".pdmodel": ("a PaddlePaddle program", COPY_WEIGHTS),
    ".msgpack": ("a Flax checkpoint (msgpack)", COPY_WEIGHTS),
    ".caffemodel": ("a Caffe model", COPY_WEIGHTS),
    ".t7": ("a Torch7 file (Lua)", COPY_WEIGHTS),
    ".engine": ("a TensorRT engine", SAVE_WEIGHTS),
    ".h5": ("a damaged HDF5 file", DOWNLOAD),
}


def kind_of_file(path: PathLike) -> Kind | None:
    """What the file or folder is, if it is a known kind of thing that is no readable checkpoint; None otherwise.

    Raises:
        OSError: it cannot be read.

    Example:
        >>> _ = Path("model.pt").write_text("404: Not Found")
        >>> print(kind_of_file("model.pt").name)
        plain text: '404: Not Found'
    """
    file = Path(path)
    if file.is_dir():
        return kind_of_folder(file)
    with file.open("rb") as stream:
        return kind_of_stream(stream, str(file))


def kind_of_stream(stream: IO[bytes], source: str) -> Kind | None:
    """As `kind_of_file`, of a seekable stream that is called `source`; its position is moved.

    Example:
        >>> import io
        >>> print(kind_of_stream(io.BytesIO(b"GGUF" + bytes(100)), "model.pt").name)
        a GGUF file of llama.cpp
    """
    size = stream.seek(0, 2)
    stream.seek(max(0, size - _TAIL))
    tail = stream.read(_TAIL)
    stream.seek(0)
    head = stream.read(_HEAD)
    members = None
    if head.startswith(_ZIPS):
        try:
            with zipfile.ZipFile(stream) as archive:
                members = archive.namelist()
        except DAMAGED:
            pass
    elif head.lstrip()[:1] in (b"{", b"["):
        head += stream.read(_LONGEST_TEXT)
    return kind_of(head, source, size=size, tail=tail, members=members)


def kind_of(
    head: bytes, source: str, *, size: int | None = None, tail: bytes = b"", members: Sequence[str] | None = None
) -> Kind | None:
    """What a file is, from its bytes and its name; None if it may be a checkpoint, or is not known.

    Args:
        head: its first bytes; 4096 are enough, but for JSON more show more.
        source: its name.
        size: of the file, in bytes, if known.
        tail: its last bytes, if known; 65,557 are enough for a zip.
        members: if it is a zip that can be listed, the names in it.

    Example:
        >>> kind_of(b"", "model.pt")
        Kind(name='an empty file', remedy='download or copy it again')
        >>> kind_of(b"TFL3".rjust(8), "model.tflite").name
        'a TensorFlow Lite model'
    """
    container, _, inner = source.rpartition("!")
    kind = _kind_of(head, inner or source, size, tail, members)
    if kind and container and inner and inner in kind.remedy:  # a command cannot name what is in a container
        return Kind(kind.name, f"unpack {quoted_path(container)}, then {kind.remedy}")
    return kind


def _kind_of(head: bytes, source: str, size: int | None, tail: bytes, members: Sequence[str] | None) -> Kind | None:
    if not head:
        return Kind("an empty file", DOWNLOAD)
    if not head.strip(b"\0"):
        return Kind("a file that begins with nothing but zeros: an unfinished download", DOWNLOAD)
    name = PurePath(source).name
    if part := _kind_of_part(name, source, tail):  # each of which may be a zip
        return part
    if head.startswith(_ZIPS):
        return _kind_of_zip(head, source, tail, members)
    return (
        _kind_of_safetensors(head, name, size)
        or _kind_of_binary(head, name, source)
        or kind_of_text(head, name, source)
        or _kind_of_suffix(head, name)
    )


def _kind_of_zip(head: bytes, source: str, tail: bytes, members: Sequence[str] | None) -> Kind | None:
    if members is None and tail and b"PK\x05\x06" not in tail:
        return Kind("a zip that is cut off: it has no end record", DOWNLOAD)
    if head[:4] == b"PK\x03\x04" and len(head) > 6 and head[6] & 1:
        return Kind("an encrypted zip", "unpack it with its password, and name the file in it that holds the weights")
    return None if members is None else kind_of_members(members, source)


def _kind_of_part(name: str, source: str, tail: bytes) -> Kind | None:
    """One file of a checkpoint that is several files."""
    if name == ".metadata" or name.endswith(".distcp"):
        return Kind("a part of a sharded checkpoint of torch.distributed", merge_shards(PurePath(source).parent))
    if re.fullmatch(r"(bf16_|fp16_)?zero_pp_rank_\d+_mp_rank_\d+_(optim|model)_states\.pt", name):
        script = "python zero_to_fp32.py . weights"
        return Kind(
            "a part of a DeepSpeed ZeRO checkpoint",
            f"in the folder above it, which holds zero_to_fp32.py, run {script}, and name what that writes",
        )
    if re.search(r"\.data-\d{5}-of-\d{5}$", name) or tail.endswith(b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"):
        return Kind("a part of a TensorFlow checkpoint", COPY_WEIGHTS)
    return None


def _kind_of_safetensors(head: bytes, name: str, size: int | None) -> Kind | None:
    length = int.from_bytes(head[:8], "little")
    is_named, is_like = name.endswith(".safetensors"), head[8:9] == b"{" and length <= _MAX_SAFETENSORS_HEADER
    if size is None or not (is_like or (is_named and size < 9)) or length + 8 <= size:
        return None
    return Kind(f"a .safetensors file that is cut off: its header has {length:,} bytes, the file {size:,}", DOWNLOAD)


def _kind_of_binary(head: bytes, name: str, source: str) -> Kind | None:
    for offset, magic, what, remedy in _MAGICS:
        if head.startswith(magic, offset):
            return Kind(what, remedy.replace("FILE,", f"{quoted_path(source)},"))
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return Kind("an HDF5 file (of Keras, usually)", _hdf5_remedy(source))
    if head[257:262] == b"ustar":
        if head.startswith((b"sys_info\0", b"pickle\0", b"storages\0", b"tensors\0", b"./sys_info\0")):
            return Kind(
                "a tar of torch before 0.1.10, which only unpickling opens",
                "ask its author for model.state_dict(), saved with torch.save of a current torch",
            )
        return Kind("a tar", _UNPACK)
    if name.endswith(".onnx") or (not name.endswith((".mlmodel", ".pb")) and _is_onnx(head)):
        return Kind("an ONNX model", _onnx_remedy(source))
    return None


def _is_onnx(head: bytes) -> bool:
    """Whether it is protobuf's field 1, a small number, then field 2, a short text: ir_version and producer_name."""
    if len(head) < 5 or head[0] != 0x08 or not 1 <= head[1] <= 20 or head[2] != 0x12 or not 1 <= head[3] <= 64:
        return False
    producer = head[4 : 4 + head[3]]
    return producer.isascii() and producer.decode("ascii").isprintable()


def _onnx_remedy(source: str) -> str:
    arrays = f"{{t.name: to_array(t) for t in onnx.load({source!r}).graph.initializer}}"
    code = (
        "import numpy, onnx; from onnx.numpy_helper import to_array; "
        f"numpy.savez({beside(source, '.npz')!r}, **{arrays})"
    )
    return (
        "hand over the PyTorch checkpoint that it was exported from; or, if the export kept the names, its weights as "
        f"NumPy arrays: pip install onnx, then {python_command(code)}"
    )


def _hdf5_remedy(source: str) -> str:
    is_array = "isinstance(x, h5py.Dataset) and x.dtype.kind in 'fiu'"
    keep = f"lambda n, x: arrays.update({{n.replace('/', '.'): x[()]}} if {is_array} else {{}})"
    code = (
        f"import h5py, numpy; arrays = {{}}; h5py.File({source!r}).visititems({keep}); "
        f"numpy.savez({beside(source, '.npz')!r}, **arrays)"
    )
    return (
        f"of Keras: {COPY_WEIGHTS}; of PyTorch: write its arrays as .npz: pip install h5py, then {python_command(code)}"
    )


def _kind_of_suffix(head: bytes, name: str) -> Kind | None:
    """What only the name tells; a pickle of any name is left to the reader."""
    found = _SUFFIXES.get(PurePath(name).suffix.lower())
    return Kind(*found) if found and head[0] != 0x80 else None
