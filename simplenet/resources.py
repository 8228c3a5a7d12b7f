"""Where the files beside the library lie: the library runs from a checkout, installed with `pip install --editable`."""

from pathlib import Path

from simplenet.errors import SimpleNetError

_CHECKOUT = Path(__file__).resolve().parents[1]
MODEL_STORE = _CHECKOUT / "model_store"  # the folder of archives, from wherever a command is called


def resource(name: str) -> Path:
    """The path of `config.properties`, `config/…`, `handlers/…` or `data/…`.

    Raises:
        SimpleNetError: the library is not installed from a checkout.
    """
    path = _CHECKOUT / name
    if not path.exists():
        raise SimpleNetError(f"{path}: not found; install from a checkout with pip install --editable .")
    return path
