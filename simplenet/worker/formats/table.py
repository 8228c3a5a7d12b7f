"""Every format, by its media type: a new one is a file beside this one and an entry here.

Requests are decoded, bodies without a Content-Type recognised, responses encoded and the 415 message written from it.
"""

from simplenet.errors import UnsupportedMediaTypeError
from simplenet.media_types import FORM, JPEG, JSON, NPY, PNG, RAW
from simplenet.worker.formats import image, json_body, npy, raw
from simplenet.worker.formats.format import Format, Rows
from simplenet.worker.model_spec import ModelSpec

FORMATS = {
    JSON: Format(json_body.decode, json_body.SIGNATURES),
    PNG: Format(image.decode, image.PNG_SIGNATURES, images=True),
    JPEG: Format(image.decode, image.JPEG_SIGNATURES, images=True),
    RAW: Format(raw.decode, encode=raw.encode),
    NPY: Format(npy.decode, npy.SIGNATURES, encode=npy.encode),
}
# What a response may be, the first where the client has no preference. JSON is encoded by the batch, in encode.py.
RESPONSE_TYPES = (JSON, *(media_type for media_type, one in FORMATS.items() if one.encode))
EXPECTED_TYPES = f"{', '.join(FORMATS)} or {FORM} with a field 'data'"
_HEAD = 16  # bytes in which a signature is looked for


def decode_body(data: memoryview, media_type: str, spec: ModelSpec) -> Rows:
    """Rows and parameters of a body that is not empty.

    Args:
        data: the body.
        media_type: what the client calls it; where that is empty, the first bytes show it.
        spec: what the model takes.

    Raises:
        UnsupportedMediaTypeError: of no format here, or an image for a model that takes none.
        RequestError: or one of its kinds, with what is wrong in this body.
    """
    body_format = FORMATS.get(media_type or recognise(data))
    if body_format is None:
        raise UnsupportedMediaTypeError(f"Content-Type: expected {EXPECTED_TYPES}; found {media_type or 'none'}")
    if body_format.images and spec.side is None:
        expected = ", ".join(name for name, one in FORMATS.items() if not one.images)
        raise UnsupportedMediaTypeError(
            f"Content-Type: this model takes rows of {spec.input_size} numbers, which is no square image; "
            f"expected one of {expected}, found {media_type or recognise(data)}"
        )
    return body_format.decode(data, spec)


def recognise(data: memoryview) -> str:
    r"""The media type that the first bytes show, or an empty text.

    Example:
        >>> recognise(memoryview(b' {"instances": [[0.5]]}'))
        'application/json'
        >>> recognise(memoryview(b"\x89PNG\r\n"))
        'image/png'
        >>> recognise(memoryview(b"seven"))
        ''
    """
    head = bytes(data[:_HEAD]).lstrip()
    return next((media_type for media_type, one in FORMATS.items() if head.startswith(one.signatures)), "")
