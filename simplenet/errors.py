"""Every failure has its own type; each message names the path or field, what was expected and what was found.

SimpleNetError
├── ConfigError                  a model_config or preprocessing with an unknown, missing or impossible field
├── DataError                    a data set that cannot be read
├── CheckpointError
│   ├── CheckpointNotFoundError  the file does not exist
│   ├── TruncatedCheckpointError the file ends too early
│   ├── NotACheckpointError      a file of another kind, or a checkpoint that lacks a key
│   ├── LaterFormatError         a checkpoint of a later format than this version reads
│   ├── UnsafeCheckpointError    an array of Python objects, which only running code could read
│   ├── KeyMismatchError         weights missing, or weights the network does not have
│   ├── ShapeMismatchError       a weight whose shape differs from the network's
│   ├── HashMismatchError        the weights, or the preprocessing, are not the ones that were saved
│   └── GoldenMismatchError      the golden samples give different logits
├── ArchiveError                 a .mar that cannot be created or read
├── StorageError                 an address that cannot be read, written or listed
│   ├── ObjectNotFoundError      a bucket, object, file or folder that does not exist
│   ├── CredentialsError         missing credentials, or ones that S3 refuses
│   ├── UnreachableError         no S3 server responds at the endpoint
│   ├── ConnectionLostError      the connection broke at every attempt
│   └── ChecksumError            the received bytes differ from the stored ones
├── ServerError                  the server cannot start or stop; the message is the root cause
│   └── SettingError             an environment variable with an invalid value
├── ClientError                  the server did not respond, or refused the request
└── RequestError (4xx, 5xx)      one HTTP request is wrong or failed; the rest of its batch is not affected
    ├── NotFoundError (404)
    ├── NotAcceptableError (406)
    ├── PayloadTooLargeError (413)
    ├── ResponseTooLargeError (413)
    ├── UnsupportedMediaTypeError (415)
    ├── PredictionError (500)    trying again is of no use
    └── UnavailableError (503)   trying again is of use
        └── OutOfMemoryError (503)
"""


class SimpleNetError(Exception):
    """The base of every error that SimpleNet Serve raises; the message is one line.

    Example:
        >>> from simplenet import load_model_for_inference
        >>> try:
        ...     load_model_for_inference("missing.pt")
        ... except SimpleNetError as error:
        ...     print(error)
        missing.pt: no such file
    """

    def __str__(self) -> str:
        """The message, with line breaks (from a quoted YAML error, say) replaced by spaces."""
        return " ".join(super().__str__().splitlines())


class ConfigError(SimpleNetError):
    """A model_config, a preprocessing or an option has an unknown, missing or impossible value."""


class DataError(SimpleNetError):
    """A data set is missing, damaged, or does not fit the network."""


class CheckpointError(SimpleNetError):
    """A checkpoint cannot be saved or loaded."""


class CheckpointNotFoundError(CheckpointError):
    """The file does not exist."""


class TruncatedCheckpointError(CheckpointError):
    """The file ends before its contents do: an interrupted copy or a full disk."""


class NotACheckpointError(CheckpointError):
    """The file is of another kind, or lacks a key that a checkpoint needs."""


class LaterFormatError(CheckpointError):
    """The checkpoint was written by a later version, in a format that this one does not read: upgrade."""


class UnsafeCheckpointError(CheckpointError):
    """The file holds an array of Python objects, which only running code could read; it was not run."""


class KeyMismatchError(CheckpointError):
    """The names of the weights differ from those of the network."""


class ShapeMismatchError(CheckpointError):
    """The shape of a weight differs from the network's."""


class HashMismatchError(CheckpointError):
    """The weights do not match the content hash, the bytes not the checksum, or the preprocessing not its own hash."""


class GoldenMismatchError(CheckpointError):
    """The rebuilt network computes different logits for the golden samples: code and weights do not match."""


class ArchiveError(SimpleNetError):
    """A .mar file cannot be created or read."""


class StorageError(SimpleNetError):
    """A local path or an s3:// address cannot be read, written or listed."""


class ObjectNotFoundError(StorageError):
    """The bucket, object, file or folder does not exist."""


class CredentialsError(StorageError):
    """Credentials are missing, or S3 refuses them."""


class UnreachableError(StorageError):
    """No S3 server responds at the endpoint."""


class ConnectionLostError(StorageError):
    """The connection broke at every attempt."""


class ChecksumError(StorageError):
    """The received bytes differ from the stored ones and were discarded."""


class ServerError(SimpleNetError):
    """The server cannot be started or stopped; the message is the root cause."""


class SettingError(ServerError):
    """An environment variable has an invalid value."""


class ClientError(SimpleNetError):
    """The server did not respond, or refused the request."""


class RequestError(SimpleNetError):
    """One HTTP request is wrong or failed; its response has this status and type."""

    status = 400
    type = "BadRequest"


class NotFoundError(RequestError):
    """The request asks for something this model does not offer."""

    status = 404
    type = "NotFound"


class NotAcceptableError(RequestError):
    """The request's Accept refuses every media type that the model can write."""

    status = 406
    type = "NotAcceptable"


class PayloadTooLargeError(RequestError):
    """The request's body, or what it unpacks to, is larger than the server takes."""

    status = 413
    type = "PayloadTooLarge"


class ResponseTooLargeError(RequestError):
    """The request is valid, but its response would be larger than the server sends."""

    status = 413
    type = "ResponseTooLarge"


class UnsupportedMediaTypeError(RequestError):
    """The model does not read the request's Content-Type."""

    status = 415
    type = "UnsupportedMediaType"


class PredictionError(RequestError):
    """This request alone made the network, or a part of the worker, fail; it would fail again.

    Args:
        message: one line; without the text of the error that was raised, which may hold secrets or paths.
        type: the name of that error's type.
    """

    status = 500
    type = "PredictionFailed"

    def __init__(self, message: str, type: str | None = None) -> None:
        super().__init__(message)
        if type is not None:
            self.type = type


class UnavailableError(RequestError):
    """Nothing is wrong with the request, but the worker cannot respond now."""

    status = 503
    type = "ServiceUnavailable"


class OutOfMemoryError(UnavailableError):
    """The request alone needed more memory than the worker had at that moment."""

    type = "OutOfMemory"
