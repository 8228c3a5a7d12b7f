"""What a zip is, by the names in it."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from simplenet.checkpoint.reading.kind import COPY_WEIGHTS, NAME_WEIGHTS, SAVE_WEIGHTS, Kind, beside, python_command
from simplenet.manifest import MANIFEST
from simplenet.text import quoted

_FILES = {  # part of a name in the zip: what it is, what to do
    "model.weights.h5": ("a Keras model", COPY_WEIGHTS),
    "saved_model.pb": ("a TensorFlow SavedModel", COPY_WEIGHTS),
    "com.apple.CoreML": ("a CoreML package", SAVE_WEIGHTS),
    ".dist-info/WHEEL": ("a Python wheel", f"it is code: install it with pip, and {NAME_WEIGHTS}"),
    "[Content_Types].xml": ("a document or an image (Office)", NAME_WEIGHTS),
}


def kind_of_members(names: Sequence[str], source: str) -> Kind | None:
    """What a zip is that holds these names; None if it may be a checkpoint: of torch.save, NumPy or TorchServe.

    Example:
        >>> kind_of_members(["m/data.pkl", "m/constants.pkl", "m/code/a.py"], "m.pt").name
        'a TorchScript archive'
    """
    ends = {PurePosixPath(name).name for name in names}
    if MANIFEST in names or (names and all(name.endswith((".npy", "/")) for name in names)):
        return None
    return _kind_of_torch(names, ends, source) or _kind_of_others(names, ends)


def _kind_of_torch(names: Sequence[str], ends: set[str], source: str) -> Kind | None:
    weights = beside(source, ".pt")
    if "constants.pkl" in ends and any("code/" in name for name in names):
        code = f"import torch; torch.save(torch.jit.load({source!r}, 'cpu').state_dict(), {weights!r})"
        return Kind("a TorchScript archive", f"save its weights with {python_command(code)}, and name '{weights}'")
    if any("aotinductor/" in name for name in names):
        return Kind("a package of AOTInductor: compiled code", SAVE_WEIGHTS)
    if "serialized_exported_program.json" in ends or {"archive_format", "archive_version"} <= ends:
        code = f"import torch; torch.save(dict(torch.export.load({source!r}).state_dict), {weights!r})"
        return Kind("a program of torch.export", f"save its weights with {python_command(code)}, and name '{weights}'")
    return None


def _kind_of_others(names: Sequence[str], ends: set[str]) -> Kind | None:
    if "data.pkl" in ends:  # torch.save
        return None
    if not names:
        return Kind("an empty zip", NAME_WEIGHTS)
    for name, (what, remedy) in _FILES.items():
        if any(name in one for one in names):
            return Kind(what, remedy)
    return Kind(f"a zip of {quoted(names)}", f"unpack it, and {NAME_WEIGHTS}")
