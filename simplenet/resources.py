"""Where the files beside the library lie: at the root of a checkout, or inside an installed wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource(name: str) -> Path:
    """The path of `config.properties`, `config/…`, `handlers/…` or `data/…`."""
    checkout = _PACKAGE.parent
    root = checkout if (checkout / "pyproject.toml").is_file() else _PACKAGE / "_resources"
    return root / name
