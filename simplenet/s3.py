"""The S3 client that `simplenet.storage` uses, and its many exceptions told as one kind of message.

boto3's own chain finds credentials, region, profile and AWS_ENDPOINT_URL; with an endpoint of its own it puts the
bucket into the path, as MinIO and its like expect. boto3 is imported only inside these functions.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from simplenet.errors import (
    ChecksumError,
    ConnectionLostError,
    CredentialsError,
    ObjectNotFoundError,
    StorageError,
    UnreachableError,
)

PART_BYTES = 8 * 1024 * 1024  # a larger file travels in parts of this size, several at a time
PART_ATTEMPTS = 3  # to fetch one part, without a pause
CONNECT_TIMEOUT_S = 10

NOT_FOUND = {"404", "NoSuchKey", "NoSuchBucket", "NotFound"}
REFUSED = {"401", "403", "AccessDenied", "AllAccessDisabled", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
SPOILT = {"BadDigest", "InvalidDigest", "IncompleteBody", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}


@contextmanager
def s3_client(address: str, local: str) -> Iterator[Any]:
    """A boto3 client; while it is used, a failure of S3 or of the local file becomes a StorageError.

    Args:
        address: what the messages begin with.
        local: what an OSError means, such as "cannot write model.pt".
    """
    try:
        from botocore.exceptions import BotoCoreError, ClientError
        from s3transfer import exceptions as transfer  # type: ignore[import-untyped]
    except ImportError as error:
        raise StorageError(f"{address}: an s3:// address needs boto3; pip install boto3") from error
    client = _client(address)
    try:
        yield client
    except ClientError as error:
        raise _refusal(error.response, address, client) from error
    except BotoCoreError as error:
        raise _failure(error, address, client.meta.endpoint_url) from error
    except transfer.RetriesExceededError as error:
        raise _lost(error.last_exception, address, client.meta.endpoint_url) from error
    except (transfer.S3DownloadFailedError, transfer.S3ValidationError) as error:
        raise ChecksumError(f"{address}: it changed while it was fetched and was not kept; try again") from error
    except OSError as error:
        raise StorageError(f"{address}: {local}: {disk_trouble(error)}") from error
    finally:
        client.close()


def transfer_config() -> Any:
    """How `upload_fileobj` and `download_fileobj` cut a large file into parts."""
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(
        multipart_threshold=PART_BYTES,
        multipart_chunksize=PART_BYTES,
        num_download_attempts=PART_ATTEMPTS,
        preferred_transfer_client="classic",  # the native one obeys neither these numbers nor the retry settings
    )


def disk_trouble(error: OSError) -> str:
    """The cause and the remedy of a file that cannot be read or written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "free some space or choose another disk" if full else "look at the path and its permissions"
    return f"{error.strerror or error}; {remedy}"


def _client(address: str) -> Any:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    try:
        config = Config(retries={"mode": "standard"}, connect_timeout=CONNECT_TIMEOUT_S)
        return boto3.session.Session().client("s3", config=config)
    except (BotoCoreError, ValueError) as error:
        raise StorageError(
            f"{address}: S3 is not set up: {error}; look at AWS_ENDPOINT_URL, AWS_PROFILE and ~/.aws/config"
        ) from error


def _failure(error: Exception, address: str, endpoint: str) -> StorageError:
    """What boto3 found out by itself."""
    from botocore import exceptions as aws

    no_credentials = (
        aws.NoCredentialsError,
        aws.PartialCredentialsError,
        aws.CredentialRetrievalError,
        aws.TokenRetrievalError,
        aws.NoAuthTokenError,
        aws.SSOError,
    )
    cause = _one_line(error)
    if isinstance(error, no_credentials):
        return CredentialsError(f"{address}: {cause}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")
    if isinstance(error, aws.FlexibleChecksumError):
        return ChecksumError(f"{address}: {cause}; it was not kept, try again or upload the file again")
    if isinstance(error, aws.ConnectionError):
        return UnreachableError(f"{address}: {endpoint} does not answer ({cause}); is AWS_ENDPOINT_URL right?")
    if isinstance(error, (aws.HTTPClientError, aws.IncompleteReadError)):
        return _lost(error, address, endpoint)
    return StorageError(f"{address}: {cause} (at {endpoint})")


def _lost(error: Exception, address: str, endpoint: str) -> StorageError:
    return ConnectionLostError(
        f"{address}: {endpoint} cut the connection at each attempt ({_one_line(error)}); try again later"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")


def _refusal(response: dict[str, Any], address: str, client: Any) -> StorageError:
    """What S3 answered: an error code, except to HEAD, whose answer has a status alone."""
    code, cause = response["Error"].get("Code", "?"), response["Error"].get("Message", "no reason given").rstrip(".")
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", "?")
    bucket = address.split("/")[2]
    if code in NOT_FOUND:
        if code == "NoSuchBucket" or not _bucket_exists(client, bucket):
            return ObjectNotFoundError(
                f"{address}: there is no bucket {bucket!r} at {client.meta.endpoint_url}; create it"
            )
        return ObjectNotFoundError(f"{address}: there is no such object; list s3://{bucket} to see what there is")
    if code in REFUSED or status in (401, 403):
        return CredentialsError(
            f"{address}: S3 refuses these credentials ({code}: {cause}); they need s3:GetObject, s3:PutObject and "
            "s3:ListBucket here"
        )
    if code in SPOILT:
        return ChecksumError(f"{address}: it was spoilt on the way and was not kept ({code}: {cause}); try again")
    failing = isinstance(status, int) and status >= 500
    remedy = "try again later" if failing else "look at the address, AWS_REGION and AWS_ENDPOINT_URL"
    return StorageError(f"{address}: {client.meta.endpoint_url} answered {status} ({code}: {cause}); {remedy}")


def _bucket_exists(client: Any, bucket: str) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as error:
        return str(error.response["Error"].get("Code")) not in NOT_FOUND
    except BotoCoreError:
        return True  # nothing says that it is missing
    return True
