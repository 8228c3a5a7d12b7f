"""No line that a worker prints is long, and no short one is changed."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simplenet.worker.console import LONGEST_LINE, LineCutter


def printed(*texts: str) -> str:
    stream = io.StringIO(newline="")
    cutter = LineCutter(stream)
    assert [cutter.write(text) for text in texts] == [len(text) for text in texts]
    return stream.getvalue()


@given(st.lists(st.text(alphabet="a\n\r\u2028é")))
def test_short_lines_are_printed_as_they_are(texts):
    assert printed(*texts) == "".join(texts)


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
@pytest.mark.parametrize("size", [1, 1000, LONGEST_LINE, LONGEST_LINE + 1, 5 * LONGEST_LINE])
def test_a_long_line_is_cut_however_it_is_written(end, size):
    line = ("0123456789" * LONGEST_LINE)[: 3 * LONGEST_LINE] + end
    text = f"before{end}{line}{line}after{end}"
    cut = f"{line[:LONGEST_LINE]} ... {2 * LONGEST_LINE} characters left out{end}"
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert printed(*pieces) == f"before{end}{cut}{cut}after{end}"


def test_a_line_of_just_that_length_is_whole():
    assert printed("x" * LONGEST_LINE + "\n", "y") == "x" * LONGEST_LINE + "\ny"


def test_the_rest_of_a_stream_is_the_streams_own():
    stream = io.TextIOWrapper(io.BytesIO(), "latin-1")
    cutter = LineCutter(stream)
    print("a", file=cutter, flush=True)
    cutter.writelines(["b", "\n"])
    cutter.flush()
    cutter.buffer.write(b"c\n")
    assert cutter.encoding == "latin-1"
    assert not cutter.isatty()
    assert stream.buffer.getvalue() == b"a\nb\nc\n"
    with pytest.raises(TypeError):
        cutter.write(b"bytes")
