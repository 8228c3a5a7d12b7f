"""The fast reader of JSON takes what the careful one takes, to the same rows, and leaves the rest to it."""

import json
import subprocess
import sys

import numpy as np
import pytest
from bad_requests import bad_requests
from hypothesis import given
from hypothesis import strategies as st

from simplenet.errors import RequestError
from simplenet.worker.formats import fast_json
from simplenet.worker.formats.json_body import decode_parsed
from simplenet.worker.model_spec import ModelSpec

SPEC = ModelSpec(4, ("a", "b", "c"))
numbers = st.floats(-1e30, 1e30) | st.integers(-(2**70), 2**70)
anything = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


def carefully(body: bytes):
    return decode_parsed(json.loads(body), SPEC)


@given(st.lists(st.lists(numbers, min_size=4, max_size=4), min_size=1, max_size=5), st.integers(1, 3) | st.none())
def test_rows_are_the_careful_readers(rows, top_k):
    body = {"instances": rows, **({"parameters": {"top_k": top_k}} if top_k else {})}
    encoded = json.dumps(body).encode()
    fast, careful = fast_json.parse(encoded, 4), carefully(encoded)
    if fast is not None:  # whole numbers beyond 64 bits are left
        np.testing.assert_array_equal(fast[0], careful[0])
        assert fast[0].dtype == np.float32
        assert fast[1] == careful[1]
    else:
        assert any(isinstance(value, int) and not -(2**63) <= value < 2**64 for row in rows for value in row)


@given(anything, anything)
def test_whatever_is_taken_the_careful_reader_takes_too(instances, parameters):
    for body in ({"instances": instances}, {"instances": instances, "parameters": parameters}, instances):
        encoded = json.dumps(body).encode()
        fast = fast_json.parse(encoded, 4)
        if fast is not None:
            np.testing.assert_array_equal(fast[0], carefully(encoded)[0])


@pytest.mark.parametrize("row", ["[1,2,3,[4]]", "[[1,2,3,4]]", "[1,2,[3,4]]", "[1,2,3,true]", '[1,2,3,"4"]', "[1,2,3]"])
def test_what_is_no_flat_row_of_numbers_is_left(row):
    assert fast_json.parse(b'{"instances": [%s]}' % row.encode(), 4) is None
    with pytest.raises(RequestError):
        carefully(b'{"instances": [%s]}' % row.encode())


def test_an_ordinary_body_is_taken():
    rows, parameters = fast_json.parse(b'{"instances": [[1, 2, 3, 4.5]], "parameters": {"top_k": 2}}', 4)
    np.testing.assert_array_equal(rows, [[1, 2, 3, 4.5]])
    assert parameters == {"top_k": 2}


@pytest.mark.parametrize("bad", [one for one in bad_requests() if "top_k" not in one.name], ids=lambda bad: bad.name)
def test_bad_requests_are_left_to_the_careful_reader(bad):
    assert fast_json.parse(bad.body, 784) is None
    assert fast_json.parse(b'{"instances": [[1, 2, 3, 4]]}', 4) is not None


@pytest.mark.parametrize(("blocked", "active"), [("", "simdjson"), ("simdjson", "orjson")])
def test_which_reader_is_active_can_be_asked(blocked, active):
    code = f"import sys; sys.modules[{blocked!r}] = None; from simplenet.worker.formats import fast_json as reader"
    run = subprocess.run(
        [sys.executable, "-c", f"{code}; print(reader.ACTIVE)"], check=True, capture_output=True, text=True
    )
    assert run.stdout.strip() == active
