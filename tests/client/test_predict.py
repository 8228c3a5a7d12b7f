import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from simplenet.client.predict import predict
from simplenet.errors import ClientError
from simplenet.paths import resource

DIGIT = resource("data/digit.png")


class Other(BaseHTTPRequestHandler):
    """Some other server: answers everything with the status and the bytes given it."""

    answer = b""
    status = 200

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def other() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_predictions_come_back(other, monkeypatch):
    rows = [{"label": "7", "index": 7, "probability": 1}]
    monkeypatch.setattr(Other, "answer", json.dumps({"predictions": rows}).encode())
    assert predict(other, DIGIT) == rows


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"predictions": 3}',
        b'{"predictions": ["7"]}',
        b'{"predictions": [{"label": 7}]}',
    ],
)
def test_an_answer_of_another_server_is_refused(other, monkeypatch, answer):
    monkeypatch.setattr(Other, "answer", answer)
    with pytest.raises(ClientError, match=r"expected predictions, found .*is this a SimpleNet server\?"):
        predict(other, DIGIT)


@pytest.mark.parametrize("url", ["foo/predictions/simplenet", "http://", "ftp://127.0.0.1/", "http://a:b/"])
def test_an_address_that_is_none_is_named(url):
    with pytest.raises(ClientError, match="url: expected http://host:port, found"):
        predict(url, DIGIT)


def test_a_server_that_does_not_run_is_asked_after():
    with pytest.raises(ClientError, match=r"connection refused; is the server running\?"):
        predict("http://127.0.0.1:9/", DIGIT)


DEAD = "127.0.0.1:9"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture
def environment(monkeypatch):
    """No proxy but those that the test sets."""
    for name in (*PROXIES, *map(str.upper, PROXIES)):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize("variable", ["http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("proxy", [f"http://{DEAD}", f"socks5://{DEAD}"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_this_machines_own_servers_are_reached_without_a_proxy(environment, other, variable, proxy, host):
    environment.setenv(variable, proxy)
    environment.setattr(Other, "answer", b'{"predictions": [{"label": "7", "index": 7, "probability": 1}]}')
    assert predict(other.replace("127.0.0.1", host), DIGIT)[0]["label"] == "7"


@pytest.mark.parametrize(
    ("proxy", "reason"),
    [
        (f"http://user:secret@{DEAD}", f"through the proxy http://{DEAD}: connection refused"),
        (f"socks5://{DEAD}", f"through the proxy socks5://{DEAD}: requests cannot use it without PySocks"),
        ("http://:x", "through the proxy http://:x: "),
    ],
)
def test_a_proxy_that_fails_is_named_with_what_to_do(environment, proxy, reason):
    environment.setenv("ALL_PROXY", proxy)
    with pytest.raises(ClientError) as error:
        predict("http://192.0.2.1:8080/predictions/simplenet", DIGIT, retries=0)
    assert reason in str(error.value)
    assert str(error.value).endswith("to go around it: NO_PROXY=192.0.2.1")
    assert "secret" not in str(error.value)


def test_what_a_proxy_says_itself_is_told_apart(environment, other):
    environment.setenv("http_proxy", other)
    with pytest.raises(ClientError, match=r"is this a SimpleNet server\?"):
        predict("http://192.0.2.1:8080/predictions/simplenet", DIGIT)
    environment.setattr(Other, "status", 403)
    environment.setattr(Other, "answer", b"<html>denied")
    with pytest.raises(
        ClientError, match=rf"403: <html>denied \(through the proxy {other}; to go around it: NO_PROXY="
    ):
        predict("http://192.0.2.1:8080/predictions/simplenet", DIGIT)


def test_no_proxy_is_respected(environment):
    environment.setenv("ALL_PROXY", f"http://{DEAD}")
    environment.setenv("NO_PROXY", "host.invalid")
    with pytest.raises(ClientError, match=r"no response: there is no host of that name; is the server running\?"):
        predict("http://host.invalid:8080/predictions/simplenet", DIGIT, retries=0)


def test_https_without_tls_is_named(flaky):
    server = flaky(b"HTTP/1.1 400 X\r\n\r\n")
    with pytest.raises(ClientError, match=r"no response: TLS failed: \[SSL: .*; does the server speak https\?$"):
        predict(server.url.replace("http:", "https:"), DIGIT, retries=0)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 407 Who?\r\n\r\n", "Tunnel connection failed: 407 Who?"),
        (b"SSH-2.0\r\n", "what came back is not HTTP: 'SSH-2.0"),
        ((b"HTTP/1.1 200 OK\r\nX: ", b"x"), "timed out"),
    ],
)
def test_a_proxy_that_builds_no_tunnel_is_named_in_time(environment, flaky, answer, reason):
    server = flaky(answer)
    proxy = server.url.removesuffix("/predictions/simplenet")
    environment.setenv("https_proxy", proxy)
    begin = time.monotonic()
    with pytest.raises(ClientError) as error:
        predict("https://192.0.2.1/predictions/simplenet", DIGIT, timeout_s=2, retries=0)
    assert f"no response through the proxy {proxy}: {reason}" in str(error.value)
    assert str(error.value).endswith("; to go around it: NO_PROXY=192.0.2.1")
    assert time.monotonic() - begin < 15
