"""What a folder is, by the names in it."""

from pathlib import Path, PurePath

from simplenet.checkpoint.reading.kind import (
    COPY_WEIGHTS,
    NAME_WEIGHTS,
    SAVE_WEIGHTS,
    Kind,
    beside,
    is_training_state,
    python_command,
    quoted_path,
)
from simplenet.text import quoted

_CHECKPOINTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".npz", ".mar")


def kind_of_folder(folder: Path) -> Kind:
    """What the folder is.

    Raises:
        OSError: it cannot be listed.

    Example:
        >>> Path("run").mkdir()
        >>> _ = Path("run/model.pt").write_bytes(b"")
        >>> kind_of_folder(Path("run"))
        Kind(name='a directory', remedy="name the file in it: 'model.pt'")
    """
    names = sorted(entry.name for entry in folder.iterdir())
    if known := _kind_of_checkpoint(folder, names) or _kind_of_others(folder, names):
        return known
    indices = [name for name in names if name.endswith(".index.json")]
    candidates = [name for name in names if name.endswith(_CHECKPOINTS) and "-of-" not in name] or indices
    candidates.sort(key=is_training_state)  # Transformers writes optimizer.pt beside pytorch_model.bin
    if candidates:
        return Kind("a directory", f"name the file in it: {quoted(candidates)}")
    return Kind("a directory", NAME_WEIGHTS)


def merge_shards(folder: PurePath) -> str:
    """The step that makes one file of a folder of torch.distributed.checkpoint.

    Example:
        >>> print(merge_shards(Path("runs/last")))
        run python -m torch.distributed.checkpoint.format_utils dcp_to_torch runs/last last_weights.pt, and name that
    """
    command = "python -m torch.distributed.checkpoint.format_utils dcp_to_torch"
    output = f"{folder.name or 'model'}_weights.pt"
    return f"run {command} {quoted_path(folder)} {quoted_path(output)}, and name that"


def _kind_of_checkpoint(folder: Path, names: list[str]) -> Kind | None:
    if ".metadata" in names or any(name.endswith(".distcp") for name in names):
        return Kind("a sharded checkpoint of torch.distributed", merge_shards(folder))
    if "zero_to_fp32.py" in names:
        return Kind(
            "a DeepSpeed ZeRO checkpoint",
            f"in '{folder}', run python zero_to_fp32.py . weights, and name what that writes",
        )
    if "data.pkl" in names and "data" in names:
        folder = folder.resolve()  # "." has no name
        packed = beside(str(folder), "")
        code = f"import shutil; shutil.make_archive({packed!r}, 'zip', {str(folder.parent)!r}, {folder.name!r})"
        return Kind(
            "an unpacked file of torch.save", f"pack it again with {python_command(code)}, and name '{packed}.zip'"
        )
    return None


def _kind_of_others(folder: Path, names: list[str]) -> Kind | None:
    if "saved_model.pb" in names:
        return Kind("a TensorFlow SavedModel", COPY_WEIGHTS)
    if folder.suffix == ".mlpackage":
        return Kind("a CoreML package", SAVE_WEIGHTS)
    return None
