"""Objects of S3: put one, open one, list their keys; boto3's many exceptions told as one kind of message.

boto3's own chain finds credentials, region, profile and AWS_ENDPOINT_URL; with an endpoint of its own it puts the
bucket into the path, as MinIO and its like expect. boto3 is imported only inside these functions.

Why boto3: obstore 0.12.1 and s3fs 2026.9 were tried in its place, against the server and the proxy of the tests.
obstore returned another program's object with a flipped bit and no error, because it does not verify the checksum
that S3 sends; a single key with an empty part (`a//b`) made the whole listing fail; and it needs boto3 all the same
for profiles and SSO. Its gs:// could not be tested: gcp-storage-emulator and fake-gcs-server both refuse its uploads.
s3fs pins an older botocore and adds twelve packages, and gs:// and az:// need gcsfs and adlfs besides.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any

from simplenet.errors import (
    ChecksumError,
    ConnectionLostError,
    CredentialsError,
    ObjectNotFoundError,
    StorageError,
    UnreachableError,
)

CONNECT_TIMEOUT_S = 10

NOT_FOUND = {"404", "NoSuchKey", "NoSuchBucket", "NotFound"}
REFUSED = {"401", "403", "AccessDenied", "AllAccessDisabled", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
SPOILT = {"BadDigest", "InvalidDigest", "IncompleteBody", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}


@dataclass(frozen=True)
class StoredObject:
    """An object whose headers are known and whose bytes are still to be fetched."""

    size: int  # bytes
    metadata: dict[str, str]  # the user's own, without S3's prefix
    fetch: Callable[[IO[bytes]], None]  # writes it to an open file; verifies S3's own checksum where it carries one


def put(bucket: str, key: str, file: IO[bytes], metadata: dict[str, str]) -> None:
    """Store an open file as an object with this user metadata, whole or not at all; a large one travels in parts.

    Raises:
        StorageError: one of its kinds. An OSError is one of reading the file.
    """
    with _client(f"s3://{bucket}/{key}") as client:
        extra: dict[str, Any] = {"Metadata": metadata}
        if client.meta.config.request_checksum_calculation != "when_required":  # how a user spares an old server
            extra["ChecksumAlgorithm"] = "SHA256"
        with os.fdopen(os.dup(file.fileno()), "rb") as sent:  # boto3 closes what it is given
            client.upload_fileobj(sent, bucket, key, extra, Config=_transfer_config())


@contextmanager
def open_object(bucket: str, key: str) -> Iterator[StoredObject]:
    """Look an object up and keep the connection for as long as it is fetched.

    Raises:
        StorageError: one of its kinds, here or from `fetch`.
    """
    with _client(f"s3://{bucket}/{key}") as client:
        head = client.head_object(Bucket=bucket, Key=key)
        yield StoredObject(
            head["ContentLength"],
            head["Metadata"],
            lambda file: client.download_fileobj(bucket, key, file, Config=_transfer_config()),
        )


def list_keys(bucket: str, prefix: str) -> Iterator[tuple[str, datetime]]:
    """The key and the time of modification (UTC) of each object whose key begins with the prefix.

    Raises:
        StorageError: one of its kinds.
    """
    with _client(f"s3://{bucket}/{prefix}") as client:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                yield entry["Key"], entry["LastModified"]


@contextmanager
def _client(address: str) -> Iterator[Any]:
    """A boto3 client; while it is used, a failure of S3 becomes a StorageError that begins with the address."""
    try:
        from botocore.exceptions import BotoCoreError, ClientError
        from s3transfer import exceptions as transfer
    except ImportError as error:
        raise StorageError(f"{address}: an s3:// address needs boto3; pip install boto3") from error
    client = _new_client(address)
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
    finally:
        client.close()


def _transfer_config() -> Any:
    """boto3's own part size and attempts, without its native client, which obeys neither them nor the retries."""
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(preferred_transfer_client="classic")


def _new_client(address: str) -> Any:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    try:
        return boto3.session.Session().client("s3", config=Config(connect_timeout=CONNECT_TIMEOUT_S))
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
