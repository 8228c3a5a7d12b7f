import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from simplenet.client.predict import predict
from simplenet.errors import ClientError
from simplenet.paths import resource

DIGIT = resource("data/digit.png")


class Other(BaseHTTPRequestHandler):
    """Some other server: answers everything with 200 and the bytes given it."""

    answer = b""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
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
