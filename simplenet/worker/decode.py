"""One request's headers and fields to rows, `top_k` and the media type of its response.

Every function here raises a RequestError that names the field, what was expected and what was found. The handler then
refuses that request alone.
"""

import re
from collections.abc import Mapping
from typing import Any

from simplenet.errors import NotFoundError, RequestError, UnsupportedMediaTypeError
from simplenet.media_types import FORM, JSON, RAW, TEXT, URL_ENCODED_FORM, bare
from simplenet.text import quoted
from simplenet.worker.accept import choose_type
from simplenet.worker.failures import failed_alone
from simplenet.worker.formats import json_body, raw
from simplenet.worker.formats.format import Rows, describe
from simplenet.worker.formats.table import EXPECTED_TYPES, decode_body, recognise
from simplenet.worker.messages import DecodedRequest, RawRequest
from simplenet.worker.model_spec import ModelSpec

DEFAULT_TOP_K = 1
_BYTES = (bytes, bytearray, memoryview)


def decode_or_refuse(request: RawRequest, spec: ModelSpec) -> DecodedRequest | RequestError:
    """`decode` a request; a RequestError is returned instead of raised, and so is one for any other exception."""
    try:
        return decode(request, spec)
    except RequestError as error:
        return error
    except Exception as error:
        return failed_alone("decoding", error)


def decode(request: RawRequest, spec: ModelSpec) -> DecodedRequest:
    """Decode one request: rows, `top_k` and accept.

    Example:
        >>> request = RawRequest(b"", {"Accept": "application/x-npy"}, {"body": b'{"instances": [[0, 1]]}'})
        >>> decoded = decode(request, ModelSpec(2, ("cat", "dog")))
        >>> decoded.rows.tolist(), decoded.top_k, decoded.accept
        ([[0.0, 1.0]], 1, 'application/x-npy')

    Raises:
        RequestError: or one of its subclasses, naming what is wrong in this request.
    """
    headers = _in_lower_case(request.headers)
    if headers.get("explain") == "True":
        raise NotFoundError("explanations: this model offers predictions only; POST to /predictions/<model>")
    if (coding := headers.get("content-encoding", "").strip().lower()) not in ("", "identity"):
        raise UnsupportedMediaTypeError(f"Content-Encoding: expected none, found {coding[:32]!r}")
    accept = choose_type(headers.get("accept", ""))
    content_type = bare(headers.get("content-type", ""))
    if "body" in request.fields:
        rows, parameters = _decode_value(request.fields["body"], content_type, spec)
    elif content_type in (FORM, URL_ENCODED_FORM):
        rows, parameters = _decode_form(request, content_type, spec)
    else:
        raise RequestError("body: expected one or more rows, found nothing")
    return DecodedRequest(rows, _top_k(parameters, spec), accept)


def _in_lower_case(headers: Mapping[str, Any]) -> dict[str, str]:
    """The headers by name in lower case; `Accept` in several spellings is one list, as in RFC 9110, 5.3."""
    lowered: dict[str, str] = {}
    for spelling, value in headers.items():
        if isinstance(value, str):
            name = spelling.lower()
            lowered[name] = f"{lowered[name]}, {value}" if name == "accept" and name in lowered else value
    return lowered


def _decode_value(value: Any, media_type: str, spec: ModelSpec) -> Rows:
    """Rows and parameters of a body, or of one field of a form."""
    if isinstance(value, str) and media_type != JSON:  # TorchServe's own decoding of text
        value = value.encode()
    if not isinstance(value, _BYTES):  # TorchServe's own decoding of JSON: any JSON value
        return json_body.decode_parsed(value, spec)
    data = memoryview(value)
    if not data.nbytes:
        raise RequestError("body: expected one or more rows, found an empty body")
    return decode_body(data, media_type, spec)


def _decode_form(request: RawRequest, content_type: str, spec: ModelSpec) -> Rows:
    """Rows of the field `data`; `top_k` may be a field beside it."""
    fields = request.fields
    if content_type == URL_ENCODED_FORM:  # what curl -d sends by default
        raise UnsupportedMediaTypeError(
            f"Content-Type: expected {EXPECTED_TYPES}; found {content_type} (curl -d: add -H 'Content-Type: {JSON}')"
        )
    if "data" not in fields:
        raise RequestError(f"form: expected a field 'data', found {quoted(fields)}")
    if unknown := [name for name in fields if name not in ("data", "top_k")]:
        raise RequestError(f"form: expected the fields 'data' and 'top_k', found {quoted(unknown)}")
    part = request.headers.get("data")
    part_type = bare(str(part.get("content-type") or "")) if isinstance(part, Mapping) else ""
    value = fields["data"]
    if part_type in (RAW, TEXT):  # what a client sends for a file of unknown type
        value = value.encode() if isinstance(value, str) else value
        part_type = _unknown_file(memoryview(value), spec) if isinstance(value, _BYTES) else JSON
    rows, parameters = _decode_value(value, part_type, spec)
    if "top_k" in fields:
        parameters = {**parameters, "top_k": _form_number(fields["top_k"])}
    return rows, parameters


def _unknown_file(data: memoryview, spec: ModelSpec) -> str:
    """The media type that a file's first bytes show, else raw floats.

    The first byte of raw floats may be a bracket by chance; JSON also ends with one.
    """
    media_type = recognise(data)
    by_chance = media_type == JSON and raw.holds_whole_rows(data, spec) and bytes(data).rstrip()[-1:] not in b"}]"
    return RAW if by_chance else media_type or RAW


def _form_number(value: Any) -> Any:
    """A form field as a whole number if it is one, else its text; JSON may already be parsed."""
    if not isinstance(value, (str, *_BYTES)):
        return value
    text = value if isinstance(value, str) else bytes(value).decode("utf-8", "replace")
    return int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else text


def _top_k(parameters: Mapping[str, Any], spec: ModelSpec) -> int:
    value = parameters.get("top_k", DEFAULT_TOP_K)
    if type(value) is not int or not 1 <= value <= len(spec.classes):
        raise RequestError(f"top_k: expected a whole number from 1 to {len(spec.classes)}, found {describe(value)}")
    return value
