"""What a client tries again, against a real server that fails as told."""

import json
import socket
import threading
import time

import pytest

from simplenet.client.predict import predict
from simplenet.errors import ClientError
from simplenet.paths import resource

DIGIT = resource("data/digit.png")
ROWS = [{"label": "7", "index": 7, "probability": 1}]
GOOD = (200, {}, json.dumps({"predictions": ROWS}))
BUSY = (503, {}, '{"message": "the queue is full"}')


@pytest.mark.parametrize("failure", [BUSY, "reset", "close"])
def test_what_is_safe_to_repeat_is_tried_again(flaky, failure):
    server = flaky(failure, failure, GOOD)
    assert predict(server.url, DIGIT) == ROWS
    assert len(server.times) == 3


@pytest.mark.parametrize("status", [400, 413, 429, 500, 502, 504, 507])
def test_another_status_is_final_even_with_retry_after(flaky, status):
    server = flaky((status, {"Retry-After": "0"}, '{"message": "no"}'), GOOD)
    with pytest.raises(ClientError, match=f": {status}: no$"):
        predict(server.url, DIGIT)
    assert len(server.times) == 1


@pytest.mark.parametrize(("failure", "message"), [(BUSY, "503: the queue is full"), ("close", "closed without")])
def test_after_the_last_retry_the_failure_is_told(flaky, failure, message):
    server = flaky(*[failure] * 4)
    with pytest.raises(ClientError, match=message):
        predict(server.url, DIGIT, retries=2)
    assert len(server.times) == 3
    with pytest.raises(ClientError, match=message):
        predict(server.url, DIGIT, retries=0)
    assert len(server.times) == 4


def test_the_server_says_how_long_to_wait(flaky):
    server = flaky((503, {"Retry-After": "1"}, "{}"), GOOD)
    assert predict(server.url, DIGIT) == ROWS
    assert server.times[1] - server.times[0] >= 1


@pytest.mark.parametrize(
    "value",
    ["1.5", "soon", "-1", "", "1\r\nRetry-After: 2", "9" * 5000, "Fri, 31 Dec 99999999999 23:59:59 GMT"],
)
def test_a_retry_after_that_cannot_be_read_counts_as_absent(flaky, value):
    server = flaky((503, {"Retry-After": value}, "{}"), GOOD)
    assert predict(server.url, DIGIT) == ROWS
    assert len(server.times) == 2


@pytest.mark.parametrize("failure", [(503, {"Retry-After": "3600"}, '{"message": "full"}'), "hang", "close"])
def test_all_attempts_together_take_no_longer_than_the_timeout(flaky, failure):
    acts = ["hang", "hang"] if failure == "hang" else [failure] * 50
    server = flaky(*acts)
    begin = time.monotonic()
    with pytest.raises(ClientError, match=r"503: full|timed out|closed without"):
        predict(server.url, DIGIT, timeout_s=1, retries=49)
    assert time.monotonic() - begin < 30  # it would be an hour, or a minute, or many
    assert len(server.times) < 50


HEAD = b"HTTP/1.1 200 OK\r\n"
DRIPS = {
    "status line": (b"HTTP/1.1 200", b" "),
    "head": (HEAD + b"X: ", b"x"),
    "interim responses": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": (HEAD + b"Content-Length: 1000000\r\n\r\n", b" "),
    "body without a length": (HEAD + b"\r\n", b" "),
    "chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "length of a chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "refusal": (b"HTTP/1.1 404 X\r\nContent-Length: 1000000\r\n\r\n", b" "),
    "503": (b"HTTP/1.1 503 X\r\nContent-Length: 1000000\r\n\r\n", b" "),
}


@pytest.mark.parametrize("drip", DRIPS.values(), ids=DRIPS)
def test_the_timeout_is_kept_while_a_response_drips(flaky, drip):
    server = flaky(drip, "hang")
    begin = time.monotonic()
    watch = threading.Timer(20, server.done.set)  # without a limit the drip lasts until then
    watch.start()
    with pytest.raises(ClientError, match=r": timed out; is the server running\?$"):
        predict(server.url, DIGIT, timeout_s=1)
    assert time.monotonic() - begin < 15
    watch.cancel()


def test_the_timeout_is_kept_while_a_request_is_sent(tmp_path):
    (tmp_path / "large.npy").write_bytes(bytes(64 << 20))  # more than the buffers of two sockets take
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        begin = time.monotonic()
        with pytest.raises(ClientError, match=r": timed out; is the server running\?$"):
            predict(f"http://127.0.0.1:{deaf.getsockname()[1]}/", tmp_path / "large.npy", timeout_s=1)
    assert time.monotonic() - begin < 20


def test_a_server_that_comes_back_is_found_again():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    servers = []

    def start() -> None:
        servers.append(socket.create_server(("127.0.0.1", port)))
        connection = servers[0].accept()[0]
        with connection:
            while b"--\r\n" not in connection.recv(1 << 16):
                pass
            connection.sendall(f"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{GOOD[2]}".encode())

    later = threading.Timer(0.5, start)
    later.start()
    assert predict(f"http://127.0.0.1:{port}/predictions/simplenet", DIGIT, retries=20) == ROWS
    later.join()
    servers[0].close()
