"""What is left out of a batch whose responses are too large together."""

import pytest

from simplenet.worker.messages import RawRequest, Response
from simplenet.worker.replies import encode_responses, fitted

SIZES = [3000, 50_000, 100, 40_000, 20_000]
REQUESTS = [RawRequest(f"id-{index}".encode(), {}, [("body", "", b"")]) for index in range(len(SIZES))]
RESPONSES = [Response(bytes(size), "application/octet-stream") for size in SIZES]


@pytest.mark.parametrize(
    ("largest", "refused"), [(115_000, set()), (113_000, {1}), (70_000, {1}), (60_000, {1, 3}), (3_000, {0, 1, 3, 4})]
)
def test_the_largest_responses_become_a_503_until_the_rest_fits(largest, refused):
    whole = encode_responses(REQUESTS, RESPONSES)
    responses = fitted(whole, RESPONSES, largest)
    assert len(encode_responses(REQUESTS, responses)) <= largest
    assert {index for index, response in enumerate(responses) if response.status == 503} == refused
    assert all(responses[index] is RESPONSES[index] for index in range(len(SIZES)) if index not in refused)
    assert all(b"are larger than" in responses[index].body for index in refused)
