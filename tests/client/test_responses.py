"""What the client makes of responses that are not what they should be, from a real server or a proxy in between."""

import json

import pytest

from simplenet.client.predict import predict
from simplenet.errors import ClientError
from simplenet.paths import resource

DIGIT = resource("data/digit.png")
ROWS = [{"label": "7", "index": 7, "probability": 0.5}]
BODY = json.dumps({"predictions": ROWS}).encode()


def response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A response with these headers and a Content-Length, unless one of them says how long it is."""
    framing = (
        []
        if any("-Length" in line or "-Encoding: chunked" in line for line in headers)
        else [f"Content-Length: {len(body)}"]
    )
    head = "\r\n".join([f"HTTP/1.1 {status}", *headers, *framing, "", ""])
    return head.encode("latin-1") + body


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 40_000,
        BODY.replace(b"0.5", b"NaN"),
        BODY.replace(b"0.5", b"1e999"),
        BODY.replace(b"0.5", b"9" * 5000),
        BODY.replace(b"0.5", b"true"),
        BODY.replace(b"7", b"\xff"),
        BODY.replace(b'"index"', b'"place"'),
        BODY.replace(b"0.5", b'0.5, "top_k": {}'),
        b'{"predictions": ""}',
        b'{"predictions": {}}',
    ],
)
def test_a_body_without_predictions_is_named(flaky, body):
    with pytest.raises(ClientError, match=r"expected predictions, found .*is this a SimpleNet server\?$"):
        predict(flaky(response(body, "Content-Type: application/json")).url, DIGIT)


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified", "101 Switching Protocols"])
def test_a_status_without_a_body_is_no_prediction(flaky, status):
    with pytest.raises(ClientError, match=r"expected predictions, found ''; is this a SimpleNet server\?$"):
        predict(flaky(response(b"", status=status)).url, DIGIT)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (response(b'{"message":' * 40_000, status="404 X"), '404: {"message":'),
        (response(b'{"message": ' + b'{"a":' * 900 + b"1" + b"}" * 901, status="404 X"), '404: {"message": {"a":'),
        (response(b"", status="404 Not Found"), "404: Not Found"),
        (response(b"", status="404 "), "404: no message"),
        (response(b"<html>\n  \x1b[2Jgone", status="404 X"), r"404: <html> \x1b[2Jgone"),
        (response(b'{"message": "line\\nby \\u001b[2Jline"}', status="404 X"), r"404: line by \x1b[2Jline"),
        (response(b"gone", 'Content-Type: text/plain; charset="a\0b"', status="404 X"), "404: gone"),
    ],
)
def test_a_refusal_is_told_in_one_line(flaky, answer, message):
    with pytest.raises(ClientError) as error:
        predict(flaky(answer).url, DIGIT)
    assert message in str(error.value)
    assert str(error.value).isprintable()


CHUNKED = "Transfer-Encoding: chunked"
CUT = {
    "in the body": response(BODY)[:-9],
    "before the body": response(BODY)[: -len(BODY)],
    "in the head": b"HTTP/1.1 200 OK\r\nContent-Ty",
    "in a chunk": response(b"%x\r\n" % len(BODY) + BODY[:-9], CHUNKED),
    "between chunks": response(b"%x\r\n" % len(BODY) + BODY + b"\r\n", CHUNKED),
}


@pytest.mark.parametrize("cut", CUT.values(), ids=CUT)
def test_a_response_that_is_cut_off_is_tried_again(flaky, cut):
    server = flaky(cut, cut, response(BODY))
    assert predict(server.url, DIGIT) == ROWS
    assert len(server.times) == 3


@pytest.mark.parametrize("cut", CUT.values(), ids=CUT)
def test_a_response_that_stays_cut_off_is_named(flaky, cut):
    server = flaky(*[cut] * 4)
    with pytest.raises(ClientError, match=r"closed in the middle of the response; is the server running\?$"):
        predict(server.url, DIGIT, retries=2)
    assert len(server.times) == 3


def test_responses_that_are_cut_off_and_503_share_the_retries(flaky):
    busy = response(b"{}", status="503 X")
    server = flaky(busy, CUT["in the body"], busy, CUT["in the body"], response(BODY))
    with pytest.raises(ClientError, match="closed in the middle of the response"):
        predict(server.url, DIGIT, retries=3)
    assert len(server.times) == 4


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "what came back is not HTTP: 'SSH-2.0"),
        (b"HTTP/1.1 099 X\r\n\r\n", "what came back is not HTTP: 'HTTP/1.1 099 X"),
        (b"HTTP/3.0 200 OK\r\n\r\n", "what came back is not HTTP: 'HTTP/3.0"),
        (response(b"", "X: " + "x" * 70_000), "what came back is not HTTP: "),
        (response(b"", *["X: x"] * 200), "what came back is not HTTP: "),
        (response(BODY, "Content-Length: 1", "Content-Length: 2"), "what came back is not HTTP: 'Content-Length"),
        (response(b"soon\r\n" + BODY, CHUNKED), "what came back is not HTTP: "),
        (response(b"1;" + b"x" * 100_000, CHUNKED), "what came back is not HTTP: "),
        (response(b"-10\r\n" + BODY, CHUNKED), "what came back is not HTTP: 'the length of a chunk is negative'"),
        (response(BODY, "Content-Encoding: gzip"), "its body is not what its Content-Encoding says"),
        (response(BODY, "Content-Encoding: deflate"), "its body is not what its Content-Encoding says"),
        (response(BODY, "Content-Encoding: " + ", ".join(["gzip"] * 9)), "its body is not what its Content-Enc"),
    ],
)
def test_what_is_no_response_is_named(flaky, answer, reason):
    server = flaky(*[answer] * 2)
    with pytest.raises(ClientError) as error:
        predict(server.url, DIGIT, retries=1)
    assert f": no response: {reason}" in str(error.value)
    assert str(error.value).endswith("; is this a SimpleNet server?")
    assert str(error.value).isprintable()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["/predictions/simplenet", "https://other/\x1b", "ftp://a/", "http://[", "\xff"])
def test_a_redirect_is_named_and_not_followed(flaky, status, location):
    server = flaky(response(b"", f"Location: {location}", status=f"{status} X"), response(BODY))
    with pytest.raises(ClientError) as error:
        predict(server.url, DIGIT)
    assert str(error.value) == f"{server.url}: redirected to {location!r}; request that address"
    assert len(server.times) == 1


def test_a_503_with_a_broken_body_is_tried_again(flaky):
    server = flaky(response(b"-10\r\n{}", CHUNKED, status="503 X"), response(BODY))
    assert predict(server.url, DIGIT) == ROWS


@pytest.mark.filterwarnings("error")
def test_cookies_are_left_alone(flaky):
    odd = "Set-Cookie: a=b; expires=Thu, 01 Jan 1970" + "9" * 5000
    assert predict(flaky(response(BODY, odd)).url, DIGIT) == ROWS
