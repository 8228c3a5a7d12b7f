"""A real prediction with the golden samples of an archive, before its version becomes live."""

from collections.abc import Sequence

import requests
import torch

from simplenet.archive import Archive
from simplenet.checkpoint.keys import GOLDEN, MODEL_STATE_DICT
from simplenet.errors import ServerError
from simplenet.golden import GOLDEN_TOLERANCE
from simplenet.media_types import JSON, RAW
from simplenet.server.loopback import loopback_session
from simplenet.server.model_config import response_timeout_of
from simplenet.server.record import Server

_MOST_BYTES = 2**16  # of rows


def try_version(server: Server, archive: Archive) -> None:
    """Send golden rows to a version and compare the classes that it predicts with those of the golden logits.

    The workers have compared every logit; this shows that the version answers over HTTP too.

    Raises:
        ServerError: it gives no predictions, or other classes.
    """
    source = f"{archive.model_name} {archive.version}"
    golden = archive.checkpoint[GOLDEN]
    rows = golden["inputs"].float()
    rows = rows[: max(1, _MOST_BYTES // (4 * rows.shape[1]))]
    body = rows.numpy().astype("<f4").tobytes()
    try:
        with loopback_session() as session:
            response = session.post(
                f"{server.loopback_url}/predictions/{archive.model_name}/{archive.version}",
                data=body,
                headers={"Content-Type": RAW, "Accept": JSON},
                timeout=response_timeout_of(archive.settings),
            )
        if not response.ok:
            raise ValueError(f"{response.status_code}: {_message(response)}")
        found = [row["index"] for row in response.json()["predictions"]]
    except (requests.RequestException, ValueError, LookupError, TypeError) as error:
        raise ServerError(f"{source}: expected predictions for its golden samples, found {error}") from error
    weight = next(iter(archive.checkpoint[MODEL_STATE_DICT].values()))
    check_classes(source, golden["logits"][: len(rows)], found, GOLDEN_TOLERANCE.get(weight.dtype, 1e-4))


def _message(response: requests.Response) -> str:
    """What the server says about an error."""
    try:
        return str(response.json()["message"])
    except (ValueError, LookupError, TypeError):
        return response.reason


def check_classes(source: str, logits: torch.Tensor, found: Sequence[int], tolerance: float) -> None:
    """Compare predicted classes with golden logits; of two classes that are as good as equal, either will do.

    Args:
        source: the model's name in messages.
        logits: `(rows, num_classes)` float32.
        found: the class predicted for each row.
        tolerance: relative to the largest logit.

    Raises:
        ServerError: another class was predicted.

    Example:
        >>> check_classes("net 2.0", torch.tensor([[0.1, 0.9], [0.5, 0.5]]), [1, 0], 1e-4)
        >>> check_classes("net 2.0", torch.tensor([[0.1, 0.9]]), [0], 1e-4)
        Traceback (most recent call last):
        simplenet.errors.ServerError: net 2.0: golden sample 0: expected class 1, predicted was 0
    """
    if len(found) != len(logits):
        raise ServerError(f"{source}: expected {len(logits)} predictions for its golden samples, found {len(found)}")
    allowed = tolerance * max(float(logits.abs().max()), 1e-6)
    for number, (row, index) in enumerate(zip(logits, found, strict=True)):
        if not 0 <= index < len(row) or float(row.max() - row[index]) > allowed:
            raise ServerError(
                f"{source}: golden sample {number}: expected class {int(row.argmax())}, predicted was {index}"
            )
