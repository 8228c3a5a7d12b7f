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
