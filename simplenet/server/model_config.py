"""What TorchServe makes of the settings in an archive's model-config, which may be written by hand."""

from collections.abc import Mapping
from typing import Any

from simplenet.settings import DEFAULT_RESPONSE_TIMEOUT_S


def whole_number(settings: Mapping[str, Any], name: str) -> int:
    """A setting, or 0 where TorchServe ignores it.

    Example:
        >>> whole_number({"minWorkers": 2}, "minWorkers"), whole_number({"minWorkers": "two"}, "minWorkers")
        (2, 0)
    """
    value = settings.get(name)
    return value if isinstance(value, int) and value > 0 else 0


def response_timeout_of(settings: Mapping[str, Any]) -> int:
    """The seconds that a worker has to respond.

    Example:
        >>> response_timeout_of({"responseTimeout": 300}), response_timeout_of({})
        (300, 120)
    """
    return whole_number(settings, "responseTimeout") or DEFAULT_RESPONSE_TIMEOUT_S
