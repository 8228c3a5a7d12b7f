"""The type of a path, and where the files that come with the library lie.

In a checkout they stand at the top level, where the README shows them. A wheel carries copies of the same files in the
package's folder `resources` (see `force-include` in pyproject.toml).
"""

import os
from pathlib import Path

from simplenet.errors import SimpleNetError

PathLike = str | os.PathLike[str]

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent
_INSTALLED = _PACKAGE / "resources"

# The folder of archives: the checkout's from wherever a command is called; for an installed library the current one's.
MODEL_STORE = Path("model_store") if _INSTALLED.is_dir() else _CHECKOUT / "model_store"


def resource(name: str) -> Path:
    """The path of `config.properties`, `config/…`, `handlers/…` or `data/…`.

    Raises:
        SimpleNetError: the installation is not complete.
    """
    path = (_INSTALLED if _INSTALLED.is_dir() else _CHECKOUT) / name
    if not path.exists():
        raise SimpleNetError(
            f"{path}: not found; install SimpleNet Serve again: pip install --force-reinstall CHECKOUT"
        )
    return path
