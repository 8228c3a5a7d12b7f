"""What a file of text is: a page or an error that came in a download's place, a pointer, an index, code."""

import codecs
import html
import re
from pathlib import PurePath

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
from simplenet.text import quoted

_SHOWN = 60  # characters of a text
_DIRECT = "download it again, logged in and by its direct address (Hugging Face: /resolve/, not /blob/; GitHub: /raw/)"
_CODES = {
    "AccessDenied": "download it again with credentials that may read it",
    "NoSuchKey": "check its address: there is no such object",
    "NoSuchBucket": "check its address: there is no such bucket",
    "ExpiredToken": "renew the credentials, and download it again",
}
_CODE = "it is code: give it with --model-file, and name the file that holds its weights"
_PICKLE_0 = re.compile(rb"\([ld](p\d+\n|[.VS])|c[\w.]+\n[\w.]+\n(p\d+\n|[()])")  # protocol 0 is text
_SHARD = re.compile(r'"([^"/\\]+-of-\d+\.(safetensors|bin|pt))"')


def kind_of_text(head: bytes, name: str, source: str) -> Kind | None:
    """What a text is; None if it is no text, or is a pickle of protocol 0.

    Example:
        >>> kind_of_text(b"<html><title>Sign in</title>", "model.pt", "model.pt").name
        "an HTML page: 'Sign in'"
    """
    text = _decoded(head)
    if text is None or _PICKLE_0.match(head):
        return None
    start = text.lstrip("\ufeff \t\r\n")
    if start.startswith("<"):
        return _kind_of_markup(start)
    if start[:1] in ("{", "["):
        return _kind_of_json(start, name, source)
    return _kind_of_pointer(start, name, source) or _kind_of_lines(start, name)


def _kind_of_lines(text: str, name: str) -> Kind:
    suffix = PurePath(name).suffix.lower()
    if suffix == ".py" or re.match(r"#!.*python|(import|from) [\w.]+", text):
        return Kind("Python code", _CODE)
    if suffix in (".yaml", ".yml", ".toml", ".ini", ".cfg"):
        return Kind("a configuration", NAME_WEIGHTS)
    if text.startswith("model_checkpoint_path:"):
        return Kind("the index of a TensorFlow checkpoint", COPY_WEIGHTS)
    return Kind(f"plain text: {_shown(text)!r}", f"{DOWNLOAD}, or {NAME_WEIGHTS}")


def _decoded(head: bytes) -> str | None:
    """The text that the first bytes of a file are, which may end within a character."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head, final=False)
    except UnicodeDecodeError:
        return None
    return text if not re.search(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]", text) else None


def _shown(text: str) -> str:
    return " ".join(text.split())[:_SHOWN]


def _kind_of_pointer(text: str, name: str, source: str) -> Kind | None:
    if not text.startswith("version https://git-lfs"):
        return None
    oid, size = re.search(r"oid sha256:(\w+)", text), re.search(r"size (\d+)", text)
    what = f"sha256 {oid[1][:12]}…" if oid else "no oid"
    what += f", {int(size[1][:18]):,} bytes" if size else ""
    return Kind(
        f"a pointer of Git LFS to a file ({what}) that was not fetched",
        f"in '{PurePath(source).parent}', run git lfs pull --include {quoted_path(name)}",
    )


def _kind_of_markup(text: str) -> Kind:
    if re.match(r"<!doctype html|<html|<head|<body", text, re.IGNORECASE):
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        shown = f": {_shown(html.unescape(title[1]))!r}" if title else ""
        return Kind(f"an HTML page{shown}", _DIRECT)
    if code := re.search(r"<Code>(\w+)</Code>", text):
        return Kind(f"an error of the storage: {code[1][:_SHOWN]}", _CODES.get(code[1], "download it again"))
    if re.search(r"<net\s[^>]*\bname=|<layers>", text):
        return Kind("an OpenVINO model", SAVE_WEIGHTS)
    return Kind(f"XML: {_shown(text)!r}", f"{DOWNLOAD}, or {NAME_WEIGHTS}")


def _kind_of_json(text: str, name: str, source: str) -> Kind:
    if '"weight_map"' in text and (shards := dict(_SHARD.findall(text))):
        return _kind_of_index(sorted(shards), set(shards.values()), source)
    if name.startswith(("tokenizer", "vocab", "special_tokens")) or '"tokenizer_class"' in text:
        return Kind("a tokenizer", NAME_WEIGHTS)
    if '"nbformat"' in text:
        return Kind("a notebook", "it is code: name the file that its training wrote")
    if name.endswith("config.json") or re.search(r'"(model_type|architectures|_class_name)"\s*:', text):
        return Kind("a configuration (JSON)", NAME_WEIGHTS)
    message = re.search(r'"(?:message|error|detail|error_description)"\s*:\s*"((?:[^"\\]|\\.)*)"', text)
    if message:
        return Kind(f"an error as JSON in a download's place: {_shown(message[1])!r}", _DIRECT)
    return Kind(f"JSON: {_shown(text)!r}", f"{DOWNLOAD}, or {NAME_WEIGHTS}")


def _kind_of_index(shards: list[str], suffixes: set[str], source: str) -> Kind:
    """The index of a checkpoint in several files, with the command that makes one of them."""
    index = PurePath(source)
    merged = beside(index.name.partition(".")[0], ".safetensors" if suffixes == {"safetensors"} else ".pt")
    files = f"set(json.load(open({index.name!r}))['weight_map'].values())"
    if suffixes == {"safetensors"}:
        imports, load, save = "import json; from safetensors.torch import *", "load_file(file)", "save_file"
    else:
        imports, load, save = "import json, torch", "torch.load(file, 'cpu', weights_only=True)", "torch.save"
    merge = f"{save}({{name: tensor for file in {files} for name, tensor in {load}.items()}}, {merged!r})"
    code = f"{imports}; {merge}"
    return Kind(
        f"the index of a checkpoint in {len(shards)} files: {quoted(shards)}",
        f"merge them: in '{index.parent}', run {python_command(code)}, and name '{merged}'",
    )
