"""Choose the media type that the Accept header prefers: https://www.rfc-editor.org/rfc/rfc9110#section-12.5.1."""

import re
from functools import lru_cache

from simplenet.errors import NotAcceptableError
from simplenet.media_types import JSON
from simplenet.worker.formats.table import RESPONSE_TYPES

_QUOTED = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?')  # without an end, all the rest
_QUALITY = re.compile(r"[0-9]+(\.[0-9]*)?")


@lru_cache(maxsize=256)  # a client sends the same header with every request
def choose_type(accept: str) -> str:
    """The media type of a response.

    Each type has the quality of the most specific range that matches it: its name, then `application/*`, then `*/*`.
    The type with the highest quality is chosen. Among equals, a named type comes before one that only a wildcard
    matches, named types keep the header's order, and JSON comes first among those that a wildcard matches.

    A header that matches nothing here (`text/html`) gets JSON, as the RFC permits; so does an empty one. But a client
    that refuses JSON (`q=0`) and accepts no other type gets 406. A range whose `q` is not a number from 0 to 1 is
    ignored, and so is every other parameter.

    This code does not use werkzeug, because an archive must also serve where only torch, numpy, pillow, pyyaml and
    orjson are installed; the tests compare the two.

    Args:
        accept: the header's value, several headers joined by commas.

    Raises:
        NotAcceptableError: the header refuses JSON and accepts nothing else that is offered.

    Example:
        >>> choose_type("*/*")
        'application/json'
        >>> choose_type("application/x-npy;q=0.5, application/octet-stream")
        'application/octet-stream'
        >>> choose_type("application/json;q=0.1, */*;q=0.2")
        'application/octet-stream'
    """
    qualities = _qualities(accept)
    order = list(qualities)
    candidates = []
    for media_type in RESPONSE_TYPES:
        media_range = _most_specific(media_type, qualities)
        quality = qualities[media_range] if media_range else 0
        if quality > 0:
            candidates.append((quality, -media_range.count("*"), -order.index(media_range), media_type))
    if candidates:
        return max(candidates, key=lambda candidate: candidate[:3])[-1]  # the first of equals
    if _most_specific(JSON, qualities):
        raise NotAcceptableError(f"Accept: expected one of {', '.join(RESPONSE_TYPES)}; found {accept[:80]!r}")
    return JSON


def _qualities(accept: str) -> dict[str, float]:
    """The quality of each media range, in the header's order; the highest if a range is named twice."""
    qualities: dict[str, float] = {}
    for item in _QUOTED.sub("", accept.lower()).split(","):
        media_range, *parameters = (part.strip() for part in item.split(";"))
        quality = next((_quality(value) for name, _, value in map(_pair, parameters) if name == "q"), 1.0)
        if quality is not None:
            qualities[media_range] = max(quality, qualities.get(media_range, 0))
    return qualities


def _pair(parameter: str) -> tuple[str, str, str]:
    name, equals, value = parameter.partition("=")
    return name.strip(), equals, value.strip()


def _quality(text: str) -> float | None:
    return float(text) if _QUALITY.fullmatch(text) and float(text) <= 1 else None


def _most_specific(media_type: str, qualities: dict[str, float]) -> str:
    """The most specific range that matches a type, or an empty string."""
    main_type = media_type.partition("/")[0]
    return next((one for one in (media_type, f"{main_type}/*", "*/*") if one in qualities), "")
