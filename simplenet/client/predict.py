"""Request predictions from a server."""

import ipaddress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import requests
from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema
from requests.utils import get_environ_proxies, select_proxy

from simplenet.client.reasons import reason_and_remedy
from simplenet.client.retries import post
from simplenet.errors import ClientError
from simplenet.media_types import BY_SUFFIX
from simplenet.paths import PathLike
from simplenet.settings import DEFAULT_RETRIES
from simplenet.text import visible

_NO_ADDRESS = (InvalidSchema, InvalidURL, MissingSchema)
_ENTRY: dict[str, Any] = {"label": str, "index": int, "probability": (int, float)}
_LONGEST_TEXT = 1000  # characters of a response in a message


def predict(
    url: str, file: PathLike, top_k: int = 1, timeout_s: float = 30.0, retries: int = DEFAULT_RETRIES
) -> list[dict[str, Any]]:
    """Send one file and return one prediction per row.

    Args:
        url: of the model, for example `http://127.0.0.1:8080/predictions/simplenet`.
        file: `.png`, `.jpg`, `.jpeg`, `.npy` or `.json`.
        top_k: classes per row, the most probable first.
        timeout_s: seconds to wait for the last byte of the response, over all attempts. Looking up the name of the host
            is not counted: the system has a limit of its own for that.
        retries: how often to try again after 503, or when the connection was refused, or closed before the end of the
            response; a prediction changes nothing, so it may be requested twice.

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
    proxy = _proxy_for(url)
    # Only what this address needs: the environment's certificates and passwords stay in use.
    proxies = None if proxy else {"no_proxy": urlsplit(url).hostname or ""}
    try:
        response = post(url, timeout_s, retries, files=form, data={"top_k": str(top_k)}, proxies=proxies)
    except requests.RequestException as error:
        raise _no_response(url, proxy, error) from error
    if response.is_redirect:
        raise ClientError(
            f"{url}: redirected to {response.headers['location'][:_LONGEST_TEXT]!r}; request that address"
        )
    if not response.ok:
        raise ClientError(f"{path}: {response.status_code}: {_message(response, proxy, url)}")
    return _predictions(response, url)


def _proxy_for(url: str) -> str:
    """The environment's proxy for this address, without its password; none for this machine's own addresses."""
    try:
        host = urlsplit(url).hostname or ""
        if host == "localhost" or _is_loopback(host):
            return ""
        proxy = urlsplit(select_proxy(url, get_environ_proxies(url)) or "")
    except ValueError:  # not an address
        return ""
    return proxy._replace(netloc=proxy.netloc.rpartition("@")[2]).geturl()


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a name
        return False
    return address.is_loopback or address.is_unspecified  # 0.0.0.0 is this machine too


def _no_response(url: str, proxy: str, error: requests.RequestException) -> ClientError:
    """Why there was no response, and what to do."""
    reason, remedy = reason_and_remedy(error)
    if proxy:
        return ClientError(f"{url}: no response through the proxy {proxy}: {reason}; {_around(url)}")
    if isinstance(error, _NO_ADDRESS):
        return ClientError(f"url: expected http://host:port, found {url!r}")
    return ClientError(f"{url}: no response: {reason}; {remedy}")


def _around(url: str) -> str:
    return f"to go around it: NO_PROXY={urlsplit(url).hostname}"


def _predictions(response: requests.Response, url: str) -> list[dict[str, Any]]:
    """The predictions in the response; a response of another form comes from another kind of server."""
    try:
        predictions = _list(orjson.loads(response.content)["predictions"])
        for entry in (entry for row in predictions for entry in (row, *_list(row.get("top_k", [])))):
            for key, kind in _ENTRY.items():
                if not isinstance(entry[key], kind) or isinstance(entry[key], bool):
                    raise TypeError
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        found = _text(response)[:80]
        raise ClientError(f"{url}: expected predictions, found {found!r}; is this a SimpleNet server?") from error
    return predictions


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _text(response: requests.Response) -> str:
    """The start of the body, whatever encoding the headers name."""
    return response.content[:_LONGEST_TEXT].decode(errors="replace")


def _message(response: requests.Response, proxy: str, url: str) -> str:
    """What the server says about its refusal, in one line."""
    through = ""
    try:
        message = orjson.loads(response.content)["message"]
        if not isinstance(message, str):
            raise TypeError
    except (ValueError, LookupError, TypeError):
        message = _text(response)[:200].strip() or response.reason or "no message"
        through = f" (through the proxy {proxy}; {_around(url)})" if proxy else ""
    return " ".join(visible(message[:_LONGEST_TEXT]).split()) + through
