"""An S3 server process for the tests, a proxy before it that can inject faults, and an environment that knows both."""

import functools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from botocore.loaders import JSONFileLoader, Loader
from s3_faults import FaultyProxy

from simplenet import storage

BUCKET = "models"
LISTING_PAGE = 5


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    """The port of an S3 server process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment = {**os.environ, "MOTO_S3_DEFAULT_MAX_KEYS": str(LISTING_PAGE)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_until_ready(port, server)
            yield port
        finally:
            server.terminate()


def _wait_until_ready(port: int, server: "subprocess.Popen[bytes]") -> None:
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up and server.poll() is None:
        try:
            requests.get(f"http://127.0.0.1:{port}/moto-api/data.json", timeout=5)
            return
        except requests.RequestException:
            time.sleep(0.05)
    pytest.fail("the S3 server did not start")


@pytest.fixture(scope="session")
def running_proxy(s3_port: int) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3_port) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def parsed_once() -> Iterator[None]:
    """Keeps what botocore reads from its own files: reading it for each client would take most of the time."""
    load = functools.cache(JSONFileLoader().load_file)
    services = functools.cache(Loader().list_available_services)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", lambda loader, path: load(path))
        patch.setattr(Loader, "list_available_services", lambda loader, type_name: services(type_name))
        yield


@pytest.fixture(scope="session")
def others(s3_port: int, parsed_once: None) -> Iterator[Any]:
    """The client of somebody else, who goes round the proxy."""
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{s3_port}",
        region_name="us-east-1",
        aws_access_key_id="other",
        aws_secret_access_key="secret",
    )
    yield client
    client.close()


@pytest.fixture
def s3(running_proxy: FaultyProxy, others: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FaultyProxy:
    """The proxy, healthy, with an empty bucket behind it, and an environment that knows it and nothing else."""
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    empty = tmp_path / "home"
    empty.mkdir()
    for name, value in {
        "HOME": str(empty),
        "AWS_CONFIG_FILE": str(empty / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(empty / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_ENDPOINT_URL": running_proxy.url,
        "AWS_MAX_ATTEMPTS": "2",
        "TMPDIR": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(storage, "BACKOFF_S", 0.01)
    running_proxy.heal()
    requests.post(f"http://127.0.0.1:{running_proxy.upstream_port}/moto-api/reset", timeout=10)
    others.create_bucket(Bucket=BUCKET)
    running_proxy.requests.clear()
    return running_proxy
