"""The Accept header as RFC 9110 reads it, and as werkzeug does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from simplenet.errors import NotAcceptableError
from simplenet.media_types import JSON, NPY, RAW
from simplenet.worker.accept import choose_type
from simplenet.worker.formats.table import RESPONSE_TYPES

ranges = st.sampled_from([*RESPONSE_TYPES, "application/*", "*/*", "text/html", "*", "*/json", "Application/JSON", ""])
qualities = st.sampled_from(
    ["", ";q=1", ";q=0", ";q=0.5", "; Q=0.25", " ;\tq=0.5", ";q=0.000", ";q=1.0", ";q=2", ";q=x", ";q=-1", ";q=.5"]
)
headers = st.lists(st.tuples(ranges, qualities).map("".join), max_size=6).map(", ".join)


@given(headers)
def test_the_choice_is_werkzeugs(header):
    accept = parse_accept_header(header, MIMEAccept)
    valid = [item for item in header.split(",") if parse_accept_header(item, MIMEAccept)]
    named = [item.split(";")[0].strip().lower() for item in valid]
    by_header = sorted(RESPONSE_TYPES, key=lambda name: named.index(name) if name in named else len(named))
    best = accept.best_match(by_header)
    if best is None and JSON in accept:  # with a quality of 0
        with pytest.raises(NotAcceptableError, match="Accept: expected one of application/json, "):
            choose_type(header)
        return
    chosen = choose_type(header)
    assert accept.quality(chosen) == (accept.quality(best) if best else 0)
    assert chosen == (best or JSON)


@given(st.text(st.characters(codec="utf-8")) | st.text('aq*/=;,"\\ 01.'))
def test_any_text_chooses_a_type_or_is_not_acceptable(header):
    try:
        assert choose_type(header) in RESPONSE_TYPES
    except NotAcceptableError as error:
        assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize(
    ("header", "media_type"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("text/html", JSON),  # the RFC permits any type where none is acceptable
        (f"{NPY}, {JSON}", NPY),  # equals go in the header's order
        (f"{JSON}, {NPY}", JSON),
        (f"{JSON};q=0.1, {NPY}", NPY),
        (f"{NPY};q=0.5, {RAW};q=0.7, */*;q=0.1", RAW),
        (f"text/html, {NPY};q=0.9, */*", JSON),  # everything is preferred to .npy
        (f"{NPY}, */*", NPY),
        (f"*/*, {NPY}", NPY),
        (f"{JSON};q=0, */*;q=0.1", RAW),
        (f"{RAW};q=0, application/*;q=0.5, {JSON};q=0.2", NPY),  # the most specific range counts
        (f"*/*;q=0, {NPY}", NPY),
        (f"{NPY.upper()};Q=1", NPY),
        (f'{NPY};note="a, {JSON};q=1";q=0.5, {RAW};q=0.4', NPY),
        (f"{NPY}; version=1", NPY),
        (f"{NPY};q=nonsense, {RAW};q=0.1", RAW),
        (f"{NPY};q=1.5", JSON),
        (f"{NPY};q=", JSON),
        ("text/html, image/gif, *; q=.2, */*; q=.2", JSON),  # Java's own client
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8", JSON),  # a browser
    ],
)
def test_the_type_of_the_highest_quality_is_chosen(header, media_type):
    assert choose_type(header) == media_type


@pytest.mark.parametrize("header", ["*/*;q=0", f"{JSON};q=0", "application/*;q=0.0, text/html", f"{NPY};q=0, */*;q=0"])
def test_a_header_that_refuses_json_and_accepts_nothing_else_names_what_is_offered(header):
    with pytest.raises(NotAcceptableError) as caught:
        choose_type(header)
    assert caught.value.status == 406
    assert all(media_type in str(caught.value) for media_type in RESPONSE_TYPES)


@pytest.mark.parametrize("header", [",".join(['"'] * 4000), '"\\' * 4000, "q;" * 4000, f"a/b;{'x' * 8000}"])
def test_a_header_as_long_as_the_frontend_takes_is_read_once_through(header):
    assert choose_type(header) == JSON


def test_a_header_is_parsed_once():
    choose_type.cache_clear()
    for _ in range(3):
        choose_type(f"{NPY};q=0.5, */*;q=0.1")
    assert (choose_type.cache_info().misses, choose_type.cache_info().hits) == (1, 2)
