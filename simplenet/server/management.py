"""The management port of a running server, which only its operator may use: every request carries the server's token.

The token is in the run directory, in a file that only this user can read. The frontend (java/Management) compares it.
"""

import secrets
from pathlib import Path
from typing import Any

from simplenet.errors import ServerError
from simplenet.server.loopback import loopback_session
from simplenet.server.record import Server
from simplenet.server.run_dir import TOKEN

TIMEOUT_S = 10.0


def new_token(run_dir: Path) -> Path:
    """Write a new token into the run directory, readable by this user alone.

    Returns:
        The file.
    """
    return write_token(run_dir, secrets.token_urlsafe(32))


def write_token(run_dir: Path, token: str) -> Path:
    """Write a token into the run directory, readable by this user alone; nobody sees a part of it.

    Returns:
        The file.
    """
    file, hidden = run_dir / TOKEN, run_dir / f".{TOKEN}"
    hidden.unlink(missing_ok=True)
    hidden.touch(mode=0o600)
    hidden.write_text(token)
    return hidden.replace(file)


def request(server: Server, method: str, path: str, timeout_s: float = TIMEOUT_S, **query: Any) -> Any:
    """Send one request to the management port.

    Args:
        server: a running one.
        method: of HTTP.
        path: for example `/models/simplenet/all`.
        timeout_s: seconds to wait for the response.
        query: the parameters of the address.

    Returns:
        The parsed JSON of the response.

    Raises:
        ServerError: no response, or another status than 2xx; the message is the server's.
    """
    try:
        headers = {"Authorization": f"Bearer {(server.run_dir / TOKEN).read_text()}"}
        with loopback_session() as session:
            response = session.request(
                method, server.management_url + path, params=query, headers=headers, timeout=timeout_s
            )
            body = response.json()
    except (OSError, ValueError) as error:  # those of requests are OSErrors
        raise ServerError(f"{server.management_url}: no response: {type(error).__name__}; is it running?") from error
    if not response.ok:
        message = body.get("message") if isinstance(body, dict) else None
        raise ServerError(f"{method} {path}: {response.status_code}: {message or body}")
    return body
