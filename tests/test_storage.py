"""Storage over real HTTP: an S3 server process, and before it a proxy that injects faults."""

import errno
import gc
import os
import subprocess
import sys
from contextlib import AbstractContextManager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import torch
from s3_faults import FaultyProxy
from s3_fixtures import BUCKET, LISTING_PAGE

from simplenet import storage
from simplenet.checkpoint import save_for_inference
from simplenet.checkpoint.remote import load_from_s3, save_to_s3
from simplenet.errors import (
    CheckpointError,
    ChecksumError,
    ConnectionLostError,
    CredentialsError,
    ObjectNotFoundError,
    StorageError,
    UnreachableError,
)
from simplenet.model import SimpleNet

PART_BYTES = 8 * 1024 * 1024  # of boto3
SMALL = b"0123456789" * 1000
LARGE_BYTES = 2 * PART_BYTES + 12345


def _file(folder: Path, content: bytes = SMALL) -> Path:
    path = folder / "sent.bin"
    path.write_bytes(content)
    return path


def _entries(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"home"}


def _refused(kind: type[StorageError], *parts: str) -> AbstractContextManager[Any]:
    """Expects an error of exactly this type, in one line that has these parts in this order."""
    return pytest.raises(
        kind, match=r"\A" + ".*".join(f"(?:{part})" for part in parts) + r"[^\n]*\Z", check=_exactly(kind)
    )


def _exactly(kind: type[StorageError]) -> Any:
    return lambda error: type(error) is kind


def test_a_small_file_comes_back_as_it_was(s3: FaultyProxy, tmp_path: Path) -> None:
    storage.upload(_file(tmp_path), "s3://models/a/small.bin")
    storage.download("s3://models/a/small.bin", tmp_path / "new" / "back.bin")
    assert (tmp_path / "new" / "back.bin").read_bytes() == SMALL
    assert _entries(tmp_path / "new") == {"back.bin"}
    assert all(f"/{BUCKET}/a/small.bin" in request for request in s3.requests)


def test_an_empty_file_comes_back_empty(s3: FaultyProxy, tmp_path: Path) -> None:
    storage.upload(_file(tmp_path, b""), "s3://models/empty.bin")
    storage.download("s3://models/empty.bin", tmp_path / "back.bin")
    assert (tmp_path / "back.bin").read_bytes() == b""


def test_a_large_file_travels_in_parts(s3: FaultyProxy, tmp_path: Path) -> None:
    content = os.urandom(LARGE_BYTES)
    storage.upload(_file(tmp_path, content), "s3://models/large.bin")
    assert len([request for request in s3.requests if request.startswith("PUT") and "partNumber" in request]) == 3
    storage.download("s3://models/large.bin", tmp_path / "back.bin")
    assert len([request for request in s3.requests if request.startswith("GET")]) == 3
    assert (tmp_path / "back.bin").read_bytes() == content


def test_an_upload_carries_its_sha256_as_metadata_and_as_checksum(s3: FaultyProxy, others: Any, tmp_path: Path) -> None:
    storage.upload(_file(tmp_path, b"abc"), "s3://models/abc.bin")
    head = others.head_object(Bucket=BUCKET, Key="abc.bin", ChecksumMode="ENABLED")
    assert head["Metadata"] == {"sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
    assert head["ChecksumSHA256"] == "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="


def test_an_old_server_is_spared_the_checksum_but_not_the_metadata(
    s3: FaultyProxy, others: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    storage.upload(_file(tmp_path, b"abc"), "s3://models/abc.bin")
    head = others.head_object(Bucket=BUCKET, Key="abc.bin", ChecksumMode="ENABLED")
    assert head["Metadata"] == {"sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
    assert not [name for name in head if name.startswith("Checksum")]


def test_a_model_saved_to_s3_is_loaded_from_it(s3: FaultyProxy, tmp_path: Path) -> None:
    model = SimpleNet(12, 8, 3)
    save_to_s3(model=model, bucket_name=BUCKET, key="digits/model.pt")
    loaded = load_from_s3(bucket_name=BUCKET, key="digits/model.pt", device="cpu")
    assert not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert _entries(tmp_path) == set()  # the temporary folders are gone


def test_local_paths_take_the_same_functions(tmp_path: Path) -> None:
    storage.upload(_file(tmp_path), tmp_path / "store" / "a.bin")
    storage.download(str(tmp_path / "store" / "a.bin"), tmp_path / "back.bin")
    assert (tmp_path / "back.bin").read_bytes() == SMALL
    with storage.local_copy(tmp_path / "back.bin") as path:
        assert path == tmp_path / "back.bin"
    assert path.exists()


def test_a_local_copy_of_an_object_is_private_and_removed(s3: FaultyProxy, tmp_path: Path) -> None:
    storage.upload(_file(tmp_path), "s3://models/a/b/small.bin")
    with storage.local_copy("s3://models/a/b/small.bin") as path:
        assert path.name == "small.bin"
        assert path.read_bytes() == SMALL
        assert path.parent.stat().st_mode & 0o077 == 0
    assert not path.parent.exists()


def test_an_address_that_went_through_a_path_still_works(s3: FaultyProxy, tmp_path: Path) -> None:
    storage.upload(_file(tmp_path), Path("s3://models/small.bin"))
    with storage.local_copy(Path("s3://models/small.bin")) as path:
        assert path.read_bytes() == SMALL


def test_an_object_without_our_metadata_loads(s3: FaultyProxy, others: Any, tmp_path: Path) -> None:
    save_for_inference(SimpleNet(12, 8, 3), tmp_path / "model.pt")
    others.upload_file(str(tmp_path / "model.pt"), BUCKET, "theirs.pt")
    assert isinstance(load_from_s3(BUCKET, "theirs.pt"), SimpleNet)


def test_a_sha256_of_another_form_is_not_taken_for_ours(s3: FaultyProxy, others: Any, tmp_path: Path) -> None:
    others.put_object(Bucket=BUCKET, Key="theirs.bin", Body=SMALL, Metadata={"sha256": "see the release notes"})
    storage.download("s3://models/theirs.bin", tmp_path / "back.bin")
    assert (tmp_path / "back.bin").read_bytes() == SMALL


def test_what_is_wrong_with_a_fetched_checkpoint_names_the_address(s3: FaultyProxy, others: Any) -> None:
    others.put_object(Bucket=BUCKET, Key="notes.pt", Body=b"not a checkpoint")
    with pytest.raises(CheckpointError, match=r"\As3://models/notes\.pt: expected a checkpoint, found"):
        load_from_s3(BUCKET, "notes.pt")


@pytest.mark.parametrize("status", [500, 503])
def test_server_errors_are_tried_again(s3: FaultyProxy, tmp_path: Path, status: int) -> None:
    s3.error_status = status
    s3.errors = 1
    storage.upload(_file(tmp_path), "s3://models/small.bin")
    s3.errors = 1
    storage.download("s3://models/small.bin", tmp_path / "back.bin")
    assert (tmp_path / "back.bin").read_bytes() == SMALL
    assert s3.errors == 0


def test_a_server_that_keeps_failing_is_an_error(s3: FaultyProxy, tmp_path: Path) -> None:
    s3.forever("errors")
    with _refused(StorageError, "s3://models/small.bin: ", s3.url, "500", "try again later"):
        storage.upload(_file(tmp_path), "s3://models/small.bin")
    assert len(s3.requests) == 2  # AWS_MAX_ATTEMPTS
    with _refused(StorageError, "s3://models/small.bin: ", s3.url, "500", "try again later"):
        storage.download("s3://models/small.bin", tmp_path / "back.bin")
    assert _entries(tmp_path) == {"sent.bin"}


def test_a_failed_part_leaves_neither_object_nor_parts(s3: FaultyProxy, others: Any, tmp_path: Path) -> None:
    path = _file(tmp_path, bytes(LARGE_BYTES))
    s3.errors_at = "partNumber=2"
    s3.forever("errors")
    with _refused(StorageError, "s3://models/large.bin: ", "500"):
        storage.upload(path, "s3://models/large.bin")
    assert "Contents" not in others.list_objects_v2(Bucket=BUCKET)
    assert "Uploads" not in others.list_multipart_uploads(Bucket=BUCKET)


@pytest.mark.parametrize("size", [len(SMALL), LARGE_BYTES])
@pytest.mark.parametrize("cuts", [1, 5])
def test_a_cut_connection_that_heals_is_survived(s3: FaultyProxy, tmp_path: Path, size: int, cuts: int) -> None:
    content = os.urandom(size)
    storage.upload(_file(tmp_path, content), "s3://models/some.bin")
    s3.cuts = cuts
    storage.download("s3://models/some.bin", tmp_path / "back.bin")
    assert s3.cuts == 0
    assert (tmp_path / "back.bin").read_bytes() == content


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # of s3transfer: the other parts' connections
@pytest.mark.parametrize("size", [len(SMALL), LARGE_BYTES])
def test_a_cut_connection_that_does_not_heal_leaves_no_file(s3: FaultyProxy, tmp_path: Path, size: int) -> None:
    storage.upload(_file(tmp_path, bytes(size)), "s3://models/some.bin")
    s3.forever("cuts")
    with _refused(ConnectionLostError, "s3://models/some.bin: ", s3.url, "cut the connection", "try again later"):
        storage.download("s3://models/some.bin", tmp_path / "back.bin")
    assert _entries(tmp_path) == {"sent.bin"}
    gc.collect()  # those sockets, while their warning is expected


@pytest.mark.parametrize("validation", ["when_supported", "when_required"])
@pytest.mark.parametrize("size", [len(SMALL), LARGE_BYTES])
def test_a_flipped_bit_is_refused(
    s3: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, validation: str
) -> None:
    monkeypatch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", validation)
    storage.upload(_file(tmp_path, bytes(size)), "s3://models/some.bin")
    (tmp_path / "back.bin").write_bytes(b"as it was")
    s3.forever("flips")
    with _refused(ChecksumError, "s3://models/some.bin: ", "(?i:expected)", "not kept|nothing was kept", "upload"):
        storage.download("s3://models/some.bin", tmp_path / "back.bin")
    assert (tmp_path / "back.bin").read_bytes() == b"as it was"
    assert _entries(tmp_path) == {"sent.bin", "back.bin"}


def test_a_flipped_bit_of_an_object_without_our_metadata_is_refused(
    s3: FaultyProxy, others: Any, tmp_path: Path
) -> None:
    others.put_object(Bucket=BUCKET, Key="theirs.bin", Body=SMALL)  # boto3 adds S3's own CRC32
    s3.forever("flips")
    with _refused(ChecksumError, "s3://models/theirs.bin: Expected checksum", "it was not kept"):
        storage.download("s3://models/theirs.bin", tmp_path / "back.bin")
    assert _entries(tmp_path) == set()


def test_an_object_that_comes_shorter_than_its_headers_say_is_refused(
    s3: FaultyProxy, others: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
    others.put_object(Bucket=BUCKET, Key="theirs.bin", Body=SMALL)
    s3.forever("halves")
    with _refused(ChecksumError, "s3://models/theirs.bin: expected 10000 bytes, found 5000; nothing was kept"):
        storage.download("s3://models/theirs.bin", tmp_path / "back.bin")
    assert _entries(tmp_path) == set()


def test_a_bit_flipped_once_is_fetched_again(s3: FaultyProxy, tmp_path: Path) -> None:
    storage.upload(_file(tmp_path), "s3://models/small.bin")
    s3.flips = 1
    storage.download("s3://models/small.bin", tmp_path / "back.bin")
    assert (tmp_path / "back.bin").read_bytes() == SMALL


def test_a_wrong_sha256_in_the_bucket_is_refused_after_a_second_look(
    s3: FaultyProxy, others: Any, tmp_path: Path
) -> None:
    others.put_object(Bucket=BUCKET, Key="bad.bin", Body=SMALL, Metadata={"sha256": "0" * 64})
    with _refused(ChecksumError, "s3://models/bad.bin: expected SHA-256 0{64}, found ", "upload the file again"):
        storage.download("s3://models/bad.bin", tmp_path / "back.bin")
    assert len([request for request in s3.requests if request.startswith("GET")]) == 2
    assert _entries(tmp_path) == set()


def test_no_credentials(s3: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with _refused(CredentialsError, "s3://models/a.pt: ", "credentials", "set AWS_ACCESS_KEY_ID"):
        load_from_s3(BUCKET, "a.pt")
    with _refused(CredentialsError, "s3://models/a.pt: ", "credentials", "set AWS_ACCESS_KEY_ID"):
        storage.upload(_file(tmp_path), "s3://models/a.pt")
    assert s3.requests == []


def test_access_denied(s3: FaultyProxy, tmp_path: Path) -> None:
    s3.error_status = 403
    s3.forever("errors")
    for call in (
        lambda: storage.download("s3://models/a.pt", tmp_path / "a.pt"),
        lambda: storage.upload(_file(tmp_path), "s3://models/a.pt"),
        lambda: storage.list_objects("s3://models/"),
    ):
        with _refused(CredentialsError, "s3://models/", "403", "s3:GetObject"):
            call()


@pytest.mark.parametrize(
    ("code", "kind", "remedy"),
    [
        ("BadDigest", ChecksumError, "was not kept .*try again"),
        ("ExpiredToken", CredentialsError, "refuses these credentials"),
        ("KeyTooLongError", StorageError, "look at the address"),
    ],
)
def test_an_error_code_decides_the_kind_where_the_status_does_not(
    s3: FaultyProxy, tmp_path: Path, code: str, kind: type[StorageError], remedy: str
) -> None:
    s3.error_status = 400
    s3.error_body = f"<Error><Code>{code}</Code><Message>It is wrong.</Message></Error>".encode()
    s3.forever("errors")
    with _refused(kind, "s3://models/a.bin: ", remedy):
        storage.upload(_file(tmp_path), "s3://models/a.bin")


def test_a_profile_brings_its_credentials_and_its_endpoint(
    s3: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_PROFILE", "lab")
    (tmp_path / "home" / "config").write_text(f"[profile lab]\nendpoint_url = {s3.url}\n")
    (tmp_path / "home" / "credentials").write_text("[lab]\naws_access_key_id = me\naws_secret_access_key = secret\n")
    storage.upload(_file(tmp_path), "s3://models/small.bin")
    assert [file.address for file in storage.list_objects("s3://models")] == ["s3://models/small.bin"]


def test_a_profile_that_is_not_there(s3: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "elsewhere")
    with _refused(StorageError, "s3://models/: ", "elsewhere", "AWS_PROFILE"):
        storage.list_objects("s3://models")


def test_a_missing_key(s3: FaultyProxy, tmp_path: Path) -> None:
    with _refused(ObjectNotFoundError, "s3://models/none.pt: there is no such object", "list s3://models"):
        storage.download("s3://models/none.pt", tmp_path / "made" / "none.pt")
    assert _entries(tmp_path) == set()


def test_a_missing_bucket(s3: FaultyProxy, tmp_path: Path) -> None:
    for call in (
        lambda: storage.download("s3://nowhere/a.pt", tmp_path / "a.pt"),
        lambda: storage.upload(_file(tmp_path), "s3://nowhere/a.pt"),
        lambda: storage.list_objects("s3://nowhere"),
    ):
        with _refused(ObjectNotFoundError, "s3://nowhere/", "no bucket 'nowhere'", s3.url):
            call()


def test_an_endpoint_where_nobody_listens(s3: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with _refused(UnreachableError, "s3://models/a.pt: http://127.0.0.1:9 does not answer", "AWS_ENDPOINT_URL"):
        storage.download("s3://models/a.pt", tmp_path / "a.pt")


def test_an_endpoint_that_is_no_url(s3: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "minio")
    with _refused(StorageError, "s3://models/a.pt: ", "minio", "AWS_ENDPOINT_URL"):
        storage.download("s3://models/a.pt", tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("s3://", "no bucket"),
        ("s3:///key.pt", "no bucket"),
        ("models/key.pt", "no bucket"),
        ("s3://models", "no file name"),
        ("s3://models/folder/", "no file name"),
        ("s3://models/folder/..", "no file name"),
    ],
)
def test_an_address_of_another_form(address: str, found: str) -> None:
    with _refused(StorageError, f"{address}: expected s3://bucket/key, found {found}"):
        storage.parse_address(address)


def test_addresses_are_taken_apart() -> None:
    assert storage.parse_address("s3://models/a/b.pt") == ("models", "a/b.pt")
    assert storage.parse_address("s3://models//b.pt") == ("models", "/b.pt")
    assert storage.is_remote("s3://models/a.pt")
    assert not storage.is_remote("models/a.pt")


def test_a_bucket_name_that_is_an_address() -> None:
    with _refused(StorageError, "bucket_name: expected the name alone", "'models/digits'"):
        save_to_s3(SimpleNet(12, 8, 3), "models/digits", "a.pt")


def test_a_bucket_name_that_s3_does_not_allow(s3: FaultyProxy) -> None:
    with _refused(StorageError, "s3://no such bucket/: ", "[Ii]nvalid bucket name"):
        storage.list_objects("s3://no such bucket")


def test_a_missing_file_is_not_uploaded(s3: FaultyProxy, tmp_path: Path) -> None:
    for location in ("s3://models/a.pt", str(tmp_path / "a.pt")):
        with _refused(ObjectNotFoundError, str(tmp_path / "none.pt"), "expected a file, found nothing"):
            storage.upload(tmp_path / "none.pt", location)


def test_a_full_disk_leaves_no_file(s3: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.upload(_file(tmp_path), "s3://models/small.bin")

    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with _refused(StorageError, "s3://models/small.bin: cannot write .*back.bin: No space left", "free some space"):
        storage.download("s3://models/small.bin", tmp_path / "back.bin")
    assert _entries(tmp_path) == {"sent.bin"}


def test_a_target_that_cannot_be_written(s3: FaultyProxy, tmp_path: Path) -> None:
    storage.upload(_file(tmp_path), "s3://models/small.bin")
    with _refused(StorageError, "s3://models/small.bin: cannot write ", "permissions"):
        storage.download("s3://models/small.bin", tmp_path / "sent.bin" / "back.bin")


def test_boto3_is_needed_for_s3_alone(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['boto3'] = sys.modules['botocore'] = sys.modules['s3transfer'] = None\n"
        "from simplenet import storage\n"
        "print(len(storage.list_objects(sys.argv[1])))\n"
        "try: storage.list_objects('s3://models')\n"
        "except storage.StorageError as error: print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert result.stdout == "0\ns3://models/: an s3:// address needs boto3; pip install boto3\n"


def test_a_listing_has_the_same_form_here_and_there(s3: FaultyProxy, others: Any, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    for name in ("b.pt", "a/c.pt", ".hidden/d.pt", "a/.b.pt.x.tmp"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
        storage.upload(folder / name, f"s3://models/store/{name}")
    others.put_object(Bucket=BUCKET, Key="store/", Body=b"")
    others.put_object(Bucket=BUCKET, Key="store-of-others/b.pt", Body=b"")
    for location in (str(folder), "s3://models/store", "s3://models/store/"):
        files = storage.list_objects(location)
        base = location.rstrip("/")
        assert [file.address for file in files] == [f"{base}/a/c.pt", f"{base}/b.pt"]
        assert all(abs(datetime.now(timezone.utc) - file.modified) < timedelta(minutes=5) for file in files)
    assert len(storage.list_objects("s3://models")) == 3
    assert storage.list_objects("s3://models/none") == []


def test_a_key_with_an_empty_part_is_listed_and_fetched(s3: FaultyProxy, others: Any, tmp_path: Path) -> None:
    for key in ("store//a.pt", "store/b.pt"):
        others.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    assert [file.address for file in storage.list_objects("s3://models/store")] == [
        "s3://models/store//a.pt",
        "s3://models/store/b.pt",
    ]
    storage.download("s3://models/store//a.pt", tmp_path / "back.pt")
    assert (tmp_path / "back.pt").read_bytes() == b"store//a.pt"


def test_a_listing_goes_on_to_the_last_page(s3: FaultyProxy, others: Any) -> None:
    for number in range(2 * LISTING_PAGE + 1):
        others.put_object(Bucket=BUCKET, Key=f"{number}", Body=b"")
    assert len(storage.list_objects("s3://models")) == 2 * LISTING_PAGE + 1
    assert len(s3.requests) == 3


def test_a_local_folder_that_is_not_there(tmp_path: Path) -> None:
    with _refused(ObjectNotFoundError, str(tmp_path / "none"), "expected a folder, found nothing"):
        storage.list_objects(tmp_path / "none")
    with _refused(ObjectNotFoundError, str(_file(tmp_path)), "expected a folder, found a file"):
        storage.list_objects(tmp_path / "sent.bin")
