"""The answers of a running server, against plain torch."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
import torch
from PIL import Image
from support import Running

from simplenet import load_model_for_inference

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def expected(server: Running, digits: tuple[torch.Tensor, torch.Tensor]) -> np.ndarray:
    """Probabilities of every test digit from plain torch: (1000, 10)."""
    model = load_model_for_inference(server.checkpoint)
    with torch.inference_mode():
        return torch.softmax(model(digits[0]), dim=1).numpy()


def as_json(row: np.ndarray) -> dict:
    return {"json": {"instances": [row.tolist()], "parameters": {"top_k": 10}}}


def as_png(row: np.ndarray) -> dict:
    buffer = io.BytesIO()
    Image.fromarray((row.reshape(28, 28) * 255).round().astype(np.uint8)).save(buffer, "PNG")
    return {"files": {"data": ("digit.png", buffer.getvalue(), "image/png")}, "data": {"top_k": "10"}}


def as_raw(row: np.ndarray) -> dict:
    return {"data": row.astype("<f4").tobytes(), "headers": {"Content-Type": "application/octet-stream"}}


def probabilities(answer: requests.Response) -> np.ndarray:
    """The probability of each class in the order of the classes, one row a prediction."""
    assert answer.status_code == 200, answer.text
    rows = []
    for prediction in answer.json()["predictions"]:
        ranked = sorted(prediction["top_k"], key=lambda one: one["index"])
        rows.append([one["probability"] for one in ranked])
    return np.array(rows)


@pytest.mark.parametrize("form", [as_json, as_png])
def test_every_test_digit_is_answered_as_plain_torch_does(server, digits, expected, form):
    rows, labels = digits[0].numpy(), digits[1].numpy()
    with requests.Session() as session:
        found = np.concatenate(
            [probabilities(session.post(server.predictions, **form(row), timeout=30)) for row in rows]
        )
    assert np.abs(found - expected).max() < TOLERANCE
    assert (found.argmax(axis=1) == labels).mean() >= 0.94


def test_one_request_with_all_rows_answers_in_order(server, digits, expected):
    answer = requests.post(
        server.predictions, json={"instances": digits[0].tolist(), "parameters": {"top_k": 10}}, timeout=60
    )
    assert np.abs(probabilities(answer) - expected).max() < TOLERANCE


def test_sixty_four_clients_at_once_get_their_own_answers(server, digits, expected):
    def ask(client: int) -> list[tuple[int, np.ndarray]]:
        own = range(client, 1000, 64)
        with requests.Session() as session:
            return [
                (i, probabilities(session.post(server.predictions, **as_json(digits[0][i].numpy()), timeout=60)))
                for i in own
            ]

    with ThreadPoolExecutor(64) as pool:
        answers = [answer for part in pool.map(ask, range(64)) for answer in part]
    assert len(answers) == 1000
    assert max(np.abs(found - expected[i]).max() for i, found in answers) < TOLERANCE


@pytest.mark.parametrize("accept", ["application/x-npy", "application/octet-stream"])
def test_binary_answers_hold_the_probabilities(server, digits, expected, accept):
    body = as_raw(digits[0].numpy())
    body["headers"]["Accept"] = accept
    answer = requests.post(server.predictions, **body, timeout=60)
    assert answer.headers["Content-Type"] == accept
    if accept == "application/x-npy":
        found = np.load(io.BytesIO(answer.content), allow_pickle=False)
    else:
        found = np.frombuffer(answer.content, "<f4").reshape(-1, 10)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < TOLERANCE


def test_thousands_of_rows_fit_into_one_request(server, digits, expected):
    rows = np.tile(digits[0].numpy(), (8, 1))
    buffer = io.BytesIO()
    np.save(buffer, (rows * 255).round().astype(np.uint8).reshape(-1, 28, 28))
    answer = requests.post(
        server.predictions,
        data=buffer.getvalue(),
        headers={"Content-Type": "application/x-npy", "Accept": "application/octet-stream"},
        timeout=60,
    )
    found = np.frombuffer(answer.content, "<f4").reshape(-1, 10)
    assert np.abs(found - np.tile(expected, (8, 1))).max() < TOLERANCE


def test_a_version_in_the_path_answers_and_another_is_not_found(server, digits):
    body = as_json(digits[0][0].numpy())
    assert requests.post(f"{server.predictions}/1.0", **body, timeout=30).status_code == 200
    assert requests.post(f"{server.predictions}/9.9", **body, timeout=30).status_code == 404


def test_labels_are_the_checkpoints_classes(server, digits):
    answer = requests.post(server.predictions, **as_raw(digits[0][:1].numpy()), timeout=30).json()
    (prediction,) = answer["predictions"]
    assert prediction["label"] == str(prediction["index"])
    assert set(prediction) == {"label", "index", "probability"}


def test_explanations_say_that_there_are_none(server, digits):
    answer = requests.post(f"{server.url}/explanations/simplenet", **as_json(digits[0][0].numpy()), timeout=30)
    assert answer.status_code == 404
    assert "predictions" in answer.json()["message"]
