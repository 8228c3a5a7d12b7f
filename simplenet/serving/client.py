"""Ask a server for predictions."""

import os
from collections.abc import Sequence
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
    except requests.RequestException as error:
        raise ClientError(f"{url}: no answer: {_reason(error)}; is the server running?") from error
    if not answer.ok:
        raise ClientError(f"{path}: {answer.status_code}: {_message(answer)}")
    predictions: list[dict[str, Any]] = answer.json()["predictions"]
    return predictions


def predict_all(
    url: str, files: Sequence[str | os.PathLike[str]], top_k: int = 1
) -> list[tuple[str, list[dict[str, Any]]]]:
    """`predict` for each file, in order, with its name."""
    return [(str(file), predict(url, file, top_k)) for file in files]


def _message(answer: requests.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:200]


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return "timed out"
    return "connection refused" if isinstance(error, requests.ConnectionError) else type(error).__name__
