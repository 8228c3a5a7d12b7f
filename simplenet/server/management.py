"""The management port of a running server, which only its operator may use: every request carries the server's token.

The token is in the run directory, in a file that only this user can read. The frontend (java/Management) compares it.
"""

import secrets
from pathlib import Path
from typing import Any

import requests

from simplenet.errors import ServerError
from simplenet.server.disk import naming
from simplenet.server.loopback import loopback_session
from simplenet.server.record import Server
from simplenet.server.run_dir import TOKEN
from simplenet.text import first_line

TIMEOUT_S = 10.0
_WATCHED = "a server that is watched recovers or ends"


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
    with naming(file):
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
        ServerError: no token, no response, or another status than 2xx; the message is the server's.
    """
    headers = {"Authorization": f"Bearer {_token(server)}"}
    try:
        with loopback_session() as session:
            response = session.request(
                method, server.management_url + path, params=query, headers=headers, timeout=timeout_s
            )
            body = response.json()
    except requests.Timeout as error:
        raise ServerError(
            f"{server.management_url}: the frontend did not respond within {timeout_s:g} s; {_WATCHED}: see "
            f"{server.logs}"
        ) from error
    except (OSError, ValueError) as error:  # those of requests are OSErrors
        raise ServerError(
            f"{server.management_url}: no response: {type(error).__name__}; is it running? see simplenet status"
        ) from error
    if not response.ok:
        message = body.get("message") if isinstance(body, dict) else None
        raise ServerError(f"{method} {path}: {response.status_code}: {message or body}")
    return body


def _token(server: Server) -> str:
    file = server.run_dir / TOKEN
    try:
        return file.read_text()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
        raise ServerError(
            f"{file}: expected the token of the management port, found {reason}; a server that is watched writes it "
            f"again within seconds; if not, simplenet stop --port {server.port}, then simplenet serve"
        ) from error
