"""Ask a server for predictions."""

import os
from pathlib import Path
from typing import Any

import requests

from simplenet.errors import ClientError

CONTENT_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".npy": "application/x-npy",
    ".json": "application/json",
}


def predict(url: str, file: str | os.PathLike[str], top_k: int = 1, timeout_s: float = 30.0) -> list[dict[str, Any]]:
    """Send one image or .npy file; one prediction per row comes back.

    Args:
        url: of the model, for example `http://127.0.0.1:8080/predictions/simplenet`.
        file: `.png`, `.jpg`, `.npy` or `.json`.
        top_k: classes per row, the most probable first.
        timeout_s: seconds to wait for the answer.

    Raises:
        ClientError: the file cannot be sent, the server does not answer, or refuses the request.
    """
    path = Path(file)
    content_type = CONTENT_TYPES.get(path.suffix.lower())
    if content_type is None:
        raise ClientError(f"{path}: expected {', '.join(CONTENT_TYPES)}, found {path.suffix or 'no ending'}")
    try:
        form = {"data": (path.name, path.read_bytes(), content_type)}
    except OSError as error:
        raise ClientError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        answer = requests.post(url, files=form, data={"top_k": str(top_k)}, timeout=timeout_s)
    except ValueError as error:  # requests cannot make an address of it
        raise ClientError(f"url: expected http://host:port, found {url!r}") from error
    except requests.RequestException as error:
        raise ClientError(f"{url}: no answer: {_reason(error)}; is the server running?") from error
    if not answer.ok:
        raise ClientError(f"{path}: {answer.status_code}: {_message(answer)}")
    return _predictions(answer, url)


def _predictions(answer: requests.Response, url: str) -> list[dict[str, Any]]:
    """What the server predicted; an answer of another form comes from another server."""
    try:
        predictions: list[dict[str, Any]] = answer.json()["predictions"]
        entries = [one for row in predictions for one in (row, *row.get("top_k", ()))]
        if not all(isinstance(one["label"], str) and isinstance(one["probability"], (int, float)) for one in entries):
            raise TypeError
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ClientError(
            f"{url}: expected predictions, found {answer.text[:80]!r}; is this a SimpleNet server?"
        ) from error
    return predictions


def _message(answer: requests.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:200]


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return "timed out"
    return "connection refused" if isinstance(error, requests.ConnectionError) else type(error).__name__
