import io

import numpy as np
import orjson
import pytest

from simplenet.errors import RequestError
from simplenet.media_types import JSON, NPY, RAW
from simplenet.worker.accept import choose_type
from simplenet.worker.encode import encode_all
from simplenet.worker.formats.table import RESPONSE_TYPES
from simplenet.worker.messages import DecodedRequest
from simplenet.worker.model_spec import ModelSpec

SPEC = ModelSpec(4, ("a", "b", "c"))
PROBABILITIES = np.array([[0.25, 0.5, 0.25], [0.125, 0.125, 0.75]], np.float32)


ROWS = np.array([[1, 2, 3, 4]] * 2, np.float32)


def encode(accept: str = "", top_k: int = 1) -> tuple[bytes, str]:
    (response,) = encode_all([DecodedRequest(ROWS, top_k, choose_type(accept))], PROBABILITIES, SPEC)
    assert response.status == 200
    return response.body, response.content_type


def test_predictions_name_label_index_and_probability():
    body, content_type = encode()
    assert content_type == JSON
    assert orjson.loads(body) == {
        "predictions": [
            {"label": "b", "index": 1, "probability": 0.5},
            {"label": "c", "index": 2, "probability": 0.75},
        ]
    }


def test_top_k_ranks_the_classes_and_ties_keep_their_order():
    first = orjson.loads(encode(top_k=3)[0])["predictions"][0]
    assert [item["label"] for item in first["top_k"]] == ["b", "a", "c"]
    assert first["label"] == "b"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("application/x-npy", NPY),
        ("text/html, application/x-npy;q=0.9, */*;q=0.8", NPY),
        ("application/octet-stream", RAW),
        ("*/*", JSON),
        ("", JSON),
    ],
)
def test_the_accept_header_chooses_the_form_of_the_response(accept, media_type):
    body, content_type = encode(accept)
    assert content_type == media_type
    if media_type == NPY:
        np.testing.assert_array_equal(np.load(io.BytesIO(body), allow_pickle=False), PROBABILITIES)
    if media_type == RAW:
        np.testing.assert_array_equal(np.frombuffer(body, "<f4").reshape(2, 3), PROBABILITIES)


@pytest.mark.parametrize("accept", RESPONSE_TYPES)
def test_a_prediction_that_is_no_number_is_refused_and_never_null(accept):
    probabilities = np.array([[0.5, 0.25, 0.25], [np.nan, np.nan, np.nan]], np.float32)
    (response,) = encode_all([DecodedRequest(ROWS, 1, accept)], probabilities, SPEC)
    assert response.status == 400
    assert "row 1: expected numbers that the network can answer" in orjson.loads(response.body)["message"]


def test_every_request_of_a_batch_gets_its_own_rows_and_a_wrong_one_its_error():
    requests = [
        DecodedRequest(ROWS[:1], 1, RAW),
        RequestError("top_k: wrong"),
        DecodedRequest(ROWS[:1], 2, JSON),
    ]
    raw, error, json = encode_all(requests, PROBABILITIES, SPEC)
    assert np.frombuffer(raw.body, "<f4").tolist() == [0.25, 0.5, 0.25]
    assert (error.status, error.phrase) == (400, "BadRequest")
    assert orjson.loads(error.body)["message"] == "top_k: wrong"
    assert [one["index"] for one in orjson.loads(json.body)["predictions"][0]["top_k"]] == [2, 0]
