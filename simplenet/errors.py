"""Every failure has a type of its own; each message names the path or field, what was expected, what came.

SimpleNetError
├── ConfigError                  a model_config with an unknown, missing or impossible field
├── DataError                    a data set that cannot be read
├── CheckpointError
│   ├── CheckpointNotFoundError  there is no such file
│   ├── TruncatedCheckpointError the file ends too early
│   ├── NotACheckpointError      a file of another kind, or a checkpoint that lacks a key
│   ├── LaterFormatError         a checkpoint of a later format than this version reads
│   ├── UnsafeCheckpointError    a pickle that would run code; it was not run
│   ├── KeyMismatchError         weights missing, or weights the network does not have
│   ├── ShapeMismatchError       a weight of another shape than the network's
│   ├── HashMismatchError        the weights are not the ones that were saved
│   └── GoldenMismatchError      the network gives its golden samples other logits
├── ArchiveError                 a .mar that cannot be made or read
├── StorageError                 an address that cannot be read, written or listed
│   ├── ObjectNotFoundError      there is no such bucket, object, file or folder
│   ├── CredentialsError         no credentials, or ones that S3 refuses
│   ├── UnreachableError         no S3 server answers at the endpoint
│   ├── ConnectionLostError      the connection was cut more often than it was tried again
│   └── ChecksumError            the bytes that came are not the ones that were stored
├── ServerError                  the server cannot start or stop; the message is the root cause
│   └── SettingError             an environment variable of another value than it may have
├── ClientError                  the server did not answer, or refused
└── RequestError (4xx)           one HTTP request is wrong; its neighbours are not
    ├── NotFoundError (404)
    ├── NotAcceptableError (406)
    ├── PayloadTooLargeError (413)
    └── UnsupportedMediaTypeError (415)
"""


class SimpleNetError(Exception):
    """Anything that SimpleNet Serve refuses to do, with the reason in one line.

    Example:
        >>> from simplenet import load_model_for_inference
        >>> try:
        ...     load_model_for_inference("missing.pt")
        ... except SimpleNetError as error:
        ...     print(error)
        missing.pt: no such file
    """

    def __str__(self) -> str:
        """The message, its line breaks (of a quoted YAML error, say) as spaces."""
        return " ".join(super().__str__().splitlines())


class ConfigError(SimpleNetError):
    """A model_config has an unknown, missing or impossible field."""


class DataError(SimpleNetError):
    """A data set is missing, damaged, or does not fit the network."""


class CheckpointError(SimpleNetError):
    """A checkpoint cannot be saved or loaded."""


class CheckpointNotFoundError(CheckpointError):
    """There is no file at the path."""


class TruncatedCheckpointError(CheckpointError):
    """The file ends before its contents do: an interrupted copy or a full disk."""


class NotACheckpointError(CheckpointError):
    """The file is of another kind, or lacks a key that a checkpoint needs."""


class LaterFormatError(CheckpointError):
    """The checkpoint was written by a later version, in a format that this one does not read: upgrade."""


class UnsafeCheckpointError(CheckpointError):
    """The file is a pickle that would run code when loaded; nothing of it was run."""


class KeyMismatchError(CheckpointError):
    """The weights and the network do not have the same names."""


class ShapeMismatchError(CheckpointError):
    """A weight has another shape than the network's."""


class HashMismatchError(CheckpointError):
    """The weights are not the ones whose content hash the checkpoint carries."""


class GoldenMismatchError(CheckpointError):
    """The rebuilt network gives the golden samples other logits than the saved one: code and weights differ."""


class ArchiveError(SimpleNetError):
    """A .mar file cannot be made or read."""


class StorageError(SimpleNetError):
    """A local path or an s3:// address cannot be read, written or listed."""


class ObjectNotFoundError(StorageError):
    """There is no such bucket, object, file or folder."""


class CredentialsError(StorageError):
    """There are no credentials, or S3 does not let them do this."""


class UnreachableError(StorageError):
    """No S3 server answers at the endpoint."""


class ConnectionLostError(StorageError):
    """The connection was cut more often than it was tried again."""


class ChecksumError(StorageError):
    """The bytes that came are not the ones that were stored; none of them was kept."""


class ServerError(SimpleNetError):
    """The server cannot be started or stopped; the message is the root cause."""


class SettingError(ServerError):
    """An environment variable has a value that it may not have."""


class ClientError(SimpleNetError):
    """The server did not answer, or refused the request."""


class RequestError(SimpleNetError):
    """One HTTP request is wrong: answered alone, with this status and type."""

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


class UnsupportedMediaTypeError(RequestError):
    """The request's Content-Type is none that the model reads."""

    status = 415
    type = "UnsupportedMediaType"
