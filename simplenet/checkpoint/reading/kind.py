"""What a file is, and how its remedy is written: one step or one command that works as it stands."""

import shlex
from dataclasses import dataclass
from pathlib import PurePath

SAVE_WEIGHTS = "hand over the weights of the network it was made from, saved with torch.save(model.state_dict(), FILE)"
COPY_WEIGHTS = (
    "copy its arrays into the same network in PyTorch (a Dense kernel is the transpose of a Linear weight), "
    "and hand over torch.save(model.state_dict(), FILE)"
)
NAME_WEIGHTS = "name the file that holds the weights"
DOWNLOAD = "download or copy it again"


@dataclass(frozen=True)
class Kind:
    """What a file that is no readable checkpoint is, for "expected a checkpoint, found ...", and what to do next."""

    name: str
    remedy: str


def python_command(code: str) -> str:
    """The shell command that runs one line of Python.

    Example:
        >>> print(python_command("print('a')"))
        python -c "print('a')"
    """
    return f'python -c "{code}"' if not set(code) & set('"$`\\!') else f"python -c {shlex.quote(code)}"


def quoted_path(path: object) -> str:
    """A path as one word of a shell command.

    Example:
        >>> print(quoted_path("runs/my model.pt"))
        'runs/my model.pt'
    """
    return shlex.quote(str(path))


def beside(source: str, suffix: str) -> str:
    """A name for what a remedy writes, beside the file, that is not the file's own.

    Example:
        >>> beside("runs/model.pt", ".pt")
        'runs/model_weights.pt'
    """
    path = PurePath(source)
    return str(path.parent / f"{path.stem or 'model'}_weights{suffix}")
