"""The media types that requests and responses use, defined once.

Names follow https://www.iana.org/assignments/media-types; `.npy` has no registered type.
"""

JSON = "application/json"
NPY = "application/x-npy"
RAW = "application/octet-stream"  # little-endian float32
PNG = "image/png"
JPEG = "image/jpeg"
FORM = "multipart/form-data"
URL_ENCODED_FORM = "application/x-www-form-urlencoded"
TEXT = "text/plain"

IMAGES = (PNG, JPEG)

BY_SUFFIX = {
    ".png": PNG,
    ".jpg": JPEG,
    ".jpeg": JPEG,
    ".npy": NPY,
    ".json": JSON,
}


def bare(header: str) -> str:
    """The media type of a Content-Type header, without its parameters, in lower case.

    Example:
        >>> bare("Application/JSON; charset=utf-8")
        'application/json'
    """
    return header.partition(";")[0].strip().lower()
