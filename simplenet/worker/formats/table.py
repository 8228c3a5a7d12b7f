"""Every format by its media type; a new one needs a file beside this one and an entry here.

It is used to decode requests, recognise bodies without a Content-Type, encode responses and write the 415 message.
"""

from simplenet.errors import UnsupportedMediaTypeError
from simplenet.media_types import FORM, JPEG, JSON, NPY, PNG, RAW
from simplenet.text import LONGEST_NAME
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
# The media types of responses; the first is for clients without a preference. encode.py encodes JSON per batch.
RESPONSE_TYPES = (JSON, *(media_type for media_type, one in FORMATS.items() if one.encode))
EXPECTED_TYPES = f"{', '.join(FORMATS)} or {FORM} with a field 'data'"
_HEAD = 16  # bytes that are searched for a signature


def decode_body(data: memoryview, media_type: str, spec: ModelSpec) -> Rows:
    """Rows and parameters of a body that is not empty.

    Args:
        data: the body.
        media_type: from the client; if empty, the first bytes show it.
        spec: the input of the model.

    Raises:
        UnsupportedMediaTypeError: the format is unknown, or the body is an image and the model does not accept images.
        RequestError: or one of its subclasses, naming what is wrong in this body.
    """
    body_format = FORMATS.get(media_type or recognise(data))
    if body_format is None:
        found = media_type[:LONGEST_NAME] or "none"
        raise UnsupportedMediaTypeError(f"Content-Type: expected {EXPECTED_TYPES}; found {found}")
    if body_format.images and spec.image is None:
        expected = ", ".join(name for name, one in FORMATS.items() if not one.images)
        raise UnsupportedMediaTypeError(
            f"Content-Type: this model takes rows of {spec.row}, which is no {'' if spec.input_shape else 'square '}"
            f"image; expected one of {expected}, found {media_type or recognise(data)}"
        )
    return body_format.decode(data, spec)


def recognise(data: memoryview) -> str:
    r"""The media type that the first bytes show, or an empty string.

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
