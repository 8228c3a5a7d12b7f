"""Requests that are not as HTTP has them: each is refused with the cause, and nothing of it is in the log."""

import json
import socket

import pytest
import requests
from support import Running

from simplenet.server import find

LINE = b"POST /predictions/simplenet HTTP/1.1\r\n"
HEAD = LINE + b"Host: x\r\nContent-Type: application/octet-stream\r\n"
SIZED = HEAD + b"Content-Length: 16\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = bytes(16)
NO_NUMBER = "For input string"


@pytest.mark.parametrize(
    ("sent", "status", "message"),
    [
        (SIZED + b"X: " + b"a" * 20_000 + b"\r\n\r\n", 431, "HTTP header is larger than 8192 bytes"),
        (LINE.replace(b" HTTP", b"?" + b"a" * 10_000 + b" HTTP") + b"\r\n", 414, "HTTP line is larger than 4096 bytes"),
        (SIZED + b"X\0: a\r\n\r\n", 400, "header name cannot contain"),
        (SIZED + b"X: a\0\r\n\r\n", 400, "prohibited character"),
        (SIZED + b"Content-Length: 17\r\n\r\n", 400, "Multiple Content-Length values found: [16, 17]"),
        (b"POST /predictions/simplenet\r\n\r\n", 400, "HTTP/0.9"),
        (b"POST /predictions/simplenet HTTP/x\r\n\r\n", 400, "invalid version format: HTTP/X"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "request: expected HTTP/1.1"),
        (LINE.replace(b"simplenet", b"%zz") + b"\r\n", 400, "digits after each %, found '/predictions/%zz'"),
        (LINE.replace(b" /", b" ") + b"\r\n", 400, "a path that begins with /, found 'predictions/simplenet'"),
        (LINE.replace(b"/predictions/simplenet", b"*") + b"\r\n", 400, "a path that begins with /, found '*'"),
        (CHUNKED + b"zz\r\n" + BODY + b"\r\n0\r\n\r\n", 400, NO_NUMBER),
        (CHUNKED + b"-5\r\n" + BODY + b"\r\n0\r\n\r\n", 400, "-5 (expected: >= 0)"),
        (CHUNKED + b"10\r\n" + BODY + b"xx0\r\n\r\n", 400, NO_NUMBER),
        (CHUNKED + b"10;" + b"a" * 10_000 + b"\r\n" + BODY + b"\r\n0\r\n\r\n", 400, "line is larger than"),
        (HEAD.replace(b"application/octet-stream", b"multipart/form-data; boundary=") + b"Content-Length: 2\r\n\r\n\rx",
         400, "Content-Type: expected a boundary, found"),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n" + BODY, 400, "Transfer-Encoding: expected chunked"),
        (SIZED + b"Expect: the best\r\n\r\n", 417, "Expect: expected 100-continue, found 'the best'"),
    ],
)  # fmt: skip
def test_a_malformed_request_is_refused_with_the_cause(server, sent, status, message):
    assert_refused(server, sent, status, message)


def test_after_a_malformed_chunk_the_connection_ends(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(CHUNKED + b"zz\r\n")
        received = b""
        while data := connection.recv(65_536):
            received += data
    assert received.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (SIZED + b"\r\n" + BODY[:5], "body: expected 16 bytes, found its end after 5 bytes"),
        (CHUNKED + b"10\r\n" + BODY + b"\r\n", "body: expected a last chunk, found its end after 16 bytes"),
        (SIZED[:50], "Connection closed before received headers"),
    ],
)
def test_a_request_whose_end_is_missing_is_refused(server, sent, message):
    assert_refused(server, sent, 400, message, has_ended=True)


def test_a_form_in_an_unknown_charset_is_refused(server):
    headers = {"Content-Type": "multipart/form-data; boundary=x; charset=y"}
    answer = requests.post(server.predictions, data=b"\rx", timeout=60, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, 400)
    assert answer.json()["message"].startswith("request: expected a form")


def assert_refused(server: Running, sent: bytes, status: int, message: str, has_ended: bool = False) -> None:
    log = find(server.port).logs / "ts_log.log"
    before = log.stat().st_size
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(sent)
        if has_ended:
            connection.shutdown(socket.SHUT_WR)
        head, _, body = connection.recv(65_536).partition(b"\r\n\r\n")
    error = json.loads(body)
    assert (int(head.split()[1]), error["code"]) == (status, status)
    assert message in error["message"]
    assert b" ERROR " not in log.read_bytes()[before:]
