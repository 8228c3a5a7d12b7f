"""The type of a path, and the location of the files that come with the library.

In a checkout these files are at the top level. A wheel has copies of them in the package's folder `resources` (see
`force-include` in pyproject.toml).
"""

import os
from pathlib import Path

from simplenet.errors import SimpleNetError

PathLike = str | os.PathLike[str]

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent
_INSTALLED = _PACKAGE / "resources"

# The folder of archives: in the checkout, whatever the current folder; for an installed library, in the current folder.
MODEL_STORE = Path("model_store") if _INSTALLED.is_dir() else _CHECKOUT / "model_store"


def resource(name: str) -> Path:
    """The path of `config.properties`, `config/…`, `handlers/…` or `data/…`.

    Raises:
        SimpleNetError: the installation is incomplete.
    """
    path = (_INSTALLED if _INSTALLED.is_dir() else _CHECKOUT) / name
    if not path.exists():
        raise SimpleNetError(
            f"{path}: not found; install SimpleNet Serve again: pip install --force-reinstall CHECKOUT"
        )
    return path
