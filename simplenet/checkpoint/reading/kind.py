"""What a file is, and how its remedy is written: one step or one command that works as it stands."""

import re
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
# What training programs write beside the weights: Transformers, Accelerate, Stable-Baselines3.
_TRAINING_STATE = re.compile(
    r"(^|[._-])(optimizer|optim|scheduler|scaler|rng_state|random_states|training_args|pytorch_variables)"
    r"(_\d+)?\.\w+$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Kind:
    """What a file that is no readable checkpoint is, for "expected a checkpoint, found ...", and what to do next."""

    name: str
    remedy: str


def is_training_state(name: str) -> bool:
    """Whether a file of this name holds the state of a training and no weights.

    Example:
        >>> [is_training_state(name) for name in ("policy.optimizer.pth", "training_args.bin", "policy.pth")]
        [True, True, False]
    """
    return _TRAINING_STATE.search(name) is not None


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
