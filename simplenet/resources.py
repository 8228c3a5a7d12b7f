"""Where the files beside the library lie: at the root of a checkout, or inside an installed wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent if (_PACKAGE.parent / "pyproject.toml").is_file() else None


def resource(name: str) -> Path:
    """The path of `config.properties`, `config/…`, `handlers/…` or `data/…`."""
    return (_CHECKOUT or _PACKAGE / "_resources") / name


def default_model_store() -> Path:
    """The folder of archives: the checkout's, from wherever a command is called; else one in the working directory."""
    return (_CHECKOUT or Path()) / "model_store"
