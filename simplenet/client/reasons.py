"""Why there was no response, told from what requests and urllib3 raise."""

from http.client import IncompleteRead, RemoteDisconnected
from typing import Any

import requests
from urllib3.exceptions import (
    DecodeError,
    HTTPError,
    InvalidChunkLength,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from simplenet.text import LONGEST_VALUE, first_line, shortened, visible

_CLOSED = "the connection was closed without a response"
_CUT = "the connection was closed in the middle of the response"
_RUNNING = "is the server running?"
_OTHER = "is this a SimpleNet server?"


def reason_and_remedy(error: requests.RequestException) -> tuple[str, str]:
    """Why there was no response, and what to look at.

    Args:
        error: what requests raised.

    Example:
        >>> reason_and_remedy(requests.ReadTimeout())
        ('timed out', 'is the server running?')
    """
    cause = _cause(error)
    last = cause.args[-1] if isinstance(cause, Exception) and cause.args else None
    if isinstance(error, requests.Timeout) or isinstance(cause, ReadTimeoutError) or isinstance(last, TimeoutError):
        return "timed out", _RUNNING
    if isinstance(cause, DecodeError):
        return "its body is not what its Content-Encoding says", _OTHER
    if isinstance(error, requests.exceptions.InvalidHeader):
        return f"what came back is not HTTP: {shortened(str(error))}", _OTHER
    if isinstance(cause, ProtocolError):
        return _of_protocol(last, in_body=isinstance(error, requests.exceptions.ChunkedEncodingError))
    if isinstance(cause, SSLError):
        return f"TLS failed: {_brief(cause)}", "does the server speak https?"
    return _of_connecting(error, cause), _RUNNING


def _cause(error: requests.RequestException) -> Any:
    """The first cause that urllib3 names."""
    cause: Any = error.args[0] if error.args else None
    while isinstance(cause, HTTPError) and (reason := getattr(cause, "reason", None)) is not None:
        cause = reason  # of MaxRetryError
    return cause.original_error if isinstance(cause, ProxyError) else cause


def _of_protocol(last: Any, in_body: bool) -> tuple[str, str]:
    """What urllib3's ProtocolError stands for, by the last thing it holds."""
    if isinstance(last, RemoteDisconnected) or (isinstance(last, OSError) and not in_body):
        return _CLOSED, _RUNNING
    if isinstance(last, OSError) or last == "Response ended prematurely":
        return _CUT, _RUNNING
    if isinstance(last, IncompleteRead) and not isinstance(last, InvalidChunkLength):
        return _CUT, _RUNNING
    return f"what came back is not HTTP: {shortened(str(last))}", _OTHER


def _of_connecting(error: requests.RequestException, cause: Any) -> str:
    if isinstance(error, requests.exceptions.InvalidSchema):
        return "requests cannot use it without PySocks" if "SOCKS" in str(error) else str(error)
    if isinstance(cause, NameResolutionError):
        return "there is no host of that name"
    if isinstance(cause, NewConnectionError):
        return "connection refused" if "refused" in str(cause) else str(cause).rpartition(": ")[2]
    if "refused" in str(error):
        return "connection refused"
    return _brief(cause) if isinstance(cause, OSError) else type(error).__name__


def _brief(cause: Exception) -> str:
    return visible(first_line(cause))[:LONGEST_VALUE]
