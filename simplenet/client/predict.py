"""Request predictions from a server."""

from pathlib import Path
from typing import Any

import requests

from simplenet.errors import ClientError
from simplenet.media_types import BY_SUFFIX
from simplenet.paths import PathLike


def predict(url: str, file: PathLike, top_k: int = 1, timeout_s: float = 30.0) -> list[dict[str, Any]]:
    """Send one file and return one prediction per row.

    Args:
        url: of the model, for example `http://127.0.0.1:8080/predictions/simplenet`.
        file: `.png`, `.jpg`, `.jpeg`, `.npy` or `.json`.
        top_k: classes per row, the most probable first.
        timeout_s: seconds to wait for the response.

    Returns:
        For each row its `label`, `index` and `probability`, and with `top_k` above 1 a list `top_k` of the same.

    Example:
        >>> predict("http://127.0.0.1:8080/predictions/simplenet", "data/digit.png")  # doctest: +SKIP
        [{'label': '7', 'index': 7, 'probability': 0.9973}]

    Raises:
        ClientError: the file cannot be sent, the server does not respond, or refuses the request.
    """
    path = Path(file)
    content_type = BY_SUFFIX.get(path.suffix.lower())
    if content_type is None:
        raise ClientError(f"{path}: expected {', '.join(BY_SUFFIX)}, found {path.suffix or 'no ending'}")
    try:
        form = {"data": (path.name, path.read_bytes(), content_type)}
    except OSError as error:
        raise ClientError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        response = requests.post(url, files=form, data={"top_k": str(top_k)}, timeout=timeout_s)
    except ValueError as error:  # requests cannot parse it as an address
        raise ClientError(f"url: expected http://host:port, found {url!r}") from error
    except requests.RequestException as error:
        raise ClientError(f"{url}: no response: {_reason(error)}; is the server running?") from error
    if not response.ok:
        raise ClientError(f"{path}: {response.status_code}: {_message(response)}")
    return _predictions(response, url)


def _predictions(response: requests.Response, url: str) -> list[dict[str, Any]]:
    """The predictions in the response; a response of another form comes from another kind of server."""
    try:
        predictions: list[dict[str, Any]] = response.json()["predictions"]
        entries = [entry for row in predictions for entry in (row, *row.get("top_k", ()))]
        for entry in entries:
            if not isinstance(entry["label"], str) or not isinstance(entry["probability"], (int, float)):
                raise TypeError
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ClientError(
            f"{url}: expected predictions, found {response.text[:80]!r}; is this a SimpleNet server?"
        ) from error
    return predictions


def _message(response: requests.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return "timed out"
    return "connection refused" if isinstance(error, requests.ConnectionError) else type(error).__name__
