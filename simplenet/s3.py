"""S3 objects: put one, open one, list keys; boto3's exceptions become StorageErrors.

boto3 finds credentials, region, profile and AWS_ENDPOINT_URL by itself. With a custom endpoint it puts the bucket into
the path, as MinIO and similar servers expect. boto3 is imported only inside these functions.

Why boto3: obstore 0.12.1 and s3fs 2026.9 were tried instead, against the server and the proxy of the tests. obstore
returned another program's object with a flipped bit and no error, because it does not verify the checksum that S3
sends; a single key with an empty part (`a//b`) made the whole listing fail; and it still needs boto3 for profiles and
SSO. Its gs:// could not be tested: gcp-storage-emulator and fake-gcs-server both refuse its uploads. s3fs pins an older
botocore and adds twelve packages, and gs:// and az:// also need gcsfs and adlfs.
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
    """An object whose headers are known and whose bytes are not yet fetched."""

    size: int  # bytes
    metadata: dict[str, str]  # the user's own, without S3's prefix
    fetch: Callable[[IO[bytes]], None]  # writes it to an open file and verifies S3's own checksum, if there is one


def put(bucket: str, key: str, file: IO[bytes], metadata: dict[str, str]) -> None:
    """Store an open file as an object with this user metadata, whole or not at all; a large file is sent in parts.

    Raises:
        StorageError: one of its subclasses.
        OSError: the file cannot be read.
    """
    with _client(f"s3://{bucket}/{key}") as client:
        extra: dict[str, Any] = {"Metadata": metadata}
        if client.meta.config.request_checksum_calculation != "when_required":  # the setting for old servers
            extra["ChecksumAlgorithm"] = "SHA256"
        with os.fdopen(os.dup(file.fileno()), "rb") as sent:  # boto3 closes the file that it sends
            client.upload_fileobj(sent, bucket, key, extra, Config=_transfer_config())


@contextmanager
def open_object(bucket: str, key: str) -> Iterator[StoredObject]:
    """Look an object up and keep the connection open while it is fetched.

    Raises:
        StorageError: one of its subclasses, here or from `fetch`.
    """
    with _client(f"s3://{bucket}/{key}") as client:
        head = client.head_object(Bucket=bucket, Key=key)
        yield StoredObject(
            head["ContentLength"],
            head["Metadata"],
            lambda file: client.download_fileobj(bucket, key, file, Config=_transfer_config()),
        )


def list_keys(bucket: str, prefix: str) -> Iterator[tuple[str, datetime]]:
    """The key and modification time (UTC) of each object whose key begins with the prefix.

    Raises:
        StorageError: one of its subclasses.
    """
    with _client(f"s3://{bucket}/{prefix}") as client:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                yield entry["Key"], entry["LastModified"]


@contextmanager
def _client(address: str) -> Iterator[Any]:
    """A boto3 client; a failure of S3 in the body becomes a StorageError that begins with the address."""
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
        raise ChecksumError(f"{address}: it changed during the download and was not kept; try again") from error
    finally:
        client.close()


def _transfer_config() -> Any:
    """boto3's part size and attempts, without its native client, which ignores both and the retries."""
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
    """The error for a failure that boto3 detected itself."""
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
    """The error for a response of S3: it has an error code, except after HEAD, where it has only a status."""
    code, cause = response["Error"].get("Code", "?"), response["Error"].get("Message", "no reason given").rstrip(".")
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", "?")
    bucket = address.split("/")[2]
    if code in NOT_FOUND:
        if code == "NoSuchBucket" or not _bucket_exists(client, bucket):
            return ObjectNotFoundError(
                f"{address}: there is no bucket {bucket!r} at {client.meta.endpoint_url}; create it"
            )
        return ObjectNotFoundError(f"{address}: there is no such object; list s3://{bucket} to see its objects")
    if code in REFUSED or status in (401, 403):
        return CredentialsError(
            f"{address}: S3 refuses these credentials ({code}: {cause}); they need s3:GetObject, s3:PutObject and "
            "s3:ListBucket here"
        )
    if code in SPOILT:
        return ChecksumError(f"{address}: it was damaged in transit and was not kept ({code}: {cause}); try again")
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
        return True  # it may exist
    return True
