"""The handler over an unpacked archive, fed by TorchServe's own reader and context; only the frontend is missing."""

import importlib.util
import io
import logging
import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import orjson
import pytest
import torch
from bad_requests import JSON, NPY, PNG, RAW, BadRequest, bad_requests, npy
from PIL import Image
from ts.protocol.otf_message_handler import _retrieve_inference_msg
from ts.service import Service

from simplenet.archive import create_archive
from simplenet.checkpoint import save_for_inference
from simplenet.checkpoint.file import read_checkpoint
from simplenet.model import SimpleNet
from simplenet.model_file import load_network
from simplenet.paths import resource

NEIGHBOURS = 63
PLACE = 31  # of the wrong request among them


class Socket:
    """A connection whose bytes have all arrived."""

    def __init__(self, contents: bytes) -> None:
        self.recv = io.BytesIO(contents).read


def framed(requests) -> Socket:
    """A batch as the frontend writes it: https://github.com/pytorch/serve/blob/master/docs/internals.md."""
    end = struct.pack("!i", -1)

    def field(value: str | bytes) -> bytes:
        data = value.encode() if isinstance(value, str) else value
        return struct.pack("!i", len(data)) + data

    message = b""
    for number, (content_type, body, headers) in enumerate(requests):
        message += field(f"request-{number}")
        for name, value in {"Content-Type": content_type, **headers}.items():
            message += field(name) + field(value)
        message += end + field("body") + field(content_type) + field(body) + end
    return Socket(message + end)


class Worker:
    """TorchServe's Service and reader around our handler."""

    def __init__(self, archive: Path, folder: Path) -> None:
        with zipfile.ZipFile(archive) as contents:
            contents.extractall(folder)
        spec = importlib.util.spec_from_file_location("handler_under_test", folder / "simplenet_handler.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        classes = [value for value in vars(module).values() if isinstance(value, type)]
        (own,) = [value for value in classes if value.__module__ == module.__name__]
        self.handler = own()
        manifest = orjson.loads((folder / "MAR-INF" / "MANIFEST.json").read_bytes())
        self.service = Service("simplenet", str(folder), manifest, self.handler.handle, None, 64)
        level = logging.getLogger().level
        self.handler.initialize(self.service.context)
        logging.getLogger().setLevel(level)

    def respond(self, *requests: tuple[str, bytes, dict[str, str]]) -> list[tuple[int, str, bytes]]:
        """Status, Content-Type and body for each (content type, body, headers) of a batch."""
        context = self.service.context
        context.request_processor, batch, _ = Service.retrieve_data_for_inference(
            _retrieve_inference_msg(framed(requests))
        )
        bodies = self.handler.handle(batch, context)
        assert len(bodies) == len(requests)
        return [
            (context.get_response_status(i)[0], context.get_response_content_type(i), body)
            for i, body in enumerate(bodies)
        ]


@pytest.fixture(scope="module")
def worker(sample_archive, tmp_path_factory) -> Worker:
    return Worker(sample_archive, tmp_path_factory.mktemp("unpacked"))


@pytest.fixture(params=["false", "true"], ids=["raw", "stock"])
def decoding(request, monkeypatch) -> bool:
    """Whether TorchServe parses JSON before the handler sees it, as its stock settings do."""
    monkeypatch.setenv("TS_DECODE_INPUT_REQUEST", request.param)
    return request.param == "true"


@pytest.fixture(scope="module")
def expected(trained_checkpoint, digits) -> np.ndarray:
    """What plain torch says of every digit, `(1000, 10)`."""
    checkpoint = read_checkpoint(trained_checkpoint)
    model = SimpleNet(**checkpoint["model_config"])
    model.load_state_dict(checkpoint["model_state_dict"])
    with torch.inference_mode():
        return torch.softmax(model.eval()(digits[0]), dim=1).numpy()


def digit_request(rows: np.ndarray, form: int) -> tuple[str, bytes, dict[str, str]]:
    """Rows as one of the forms that a request may have; an image holds the first row only."""
    if form % 4 == 0:
        return JSON, orjson.dumps({"instances": rows.tolist(), "parameters": {"top_k": 3}}), {}
    if form % 4 == 1:
        return RAW, rows.astype("<f4").tobytes(), {}
    if form % 4 == 2:
        return NPY, npy(rows), {"Accept": NPY}
    buffer = io.BytesIO()
    Image.fromarray((rows[0].reshape(28, 28) * 255).round().astype(np.uint8)).save(buffer, "PNG")
    return PNG, buffer.getvalue(), {}


def check(response: tuple[int, str, bytes], probabilities: np.ndarray) -> None:
    """The response is that of plain torch for every row."""
    status, content_type, body = response
    assert status == 200
    if content_type == NPY:
        np.testing.assert_allclose(np.load(io.BytesIO(body)), probabilities, atol=1e-5)
        return
    assert content_type == JSON
    predictions = orjson.loads(body)["predictions"]
    assert len(predictions) == len(probabilities)
    for prediction, row in zip(predictions, probabilities, strict=True):
        assert prediction["index"] == row.argmax()
        assert prediction["label"] == str(row.argmax())
        for ranked in prediction.get("top_k", [prediction]):
            assert ranked["probability"] == pytest.approx(float(row[ranked["index"]]), abs=1e-5)


def neighbours(rows: np.ndarray) -> tuple[list[tuple[str, bytes, dict[str, str]]], list[slice]]:
    """63 good requests of one to three rows in every form, and which rows each holds."""
    counts = [1 if form % 4 == 3 else 1 + form % 3 for form in range(NEIGHBOURS)]
    ends = np.cumsum(counts).tolist()
    slices = [slice(end - count, end) for count, end in zip(counts, ends, strict=True)]
    return [digit_request(rows[part], form) for form, part in enumerate(slices)], slices


def check_refusal(response: tuple[int, str, bytes], bad: BadRequest, decoding: bool) -> None:
    status, content_type, body = response
    error = orjson.loads(body)
    assert (status, content_type) == (bad.status, JSON)
    assert (error["code"], len(error)) == (bad.status, 3)
    pattern = bad.parsed_message if decoding and bad.parsed_message else bad.message
    assert re.match(pattern, error["message"])
    assert len(error["message"].splitlines()) == 1


@pytest.mark.parametrize("bad", bad_requests(), ids=lambda bad: bad.name)
def test_a_wrong_request_is_refused_alone_and_its_63_neighbours_are_answered(worker, digits, expected, decoding, bad):
    wrong = (bad.content_type, bad.body, {})
    check_refusal(worker.respond(wrong)[0], bad, decoding)
    good, slices = neighbours(digits[0].numpy())
    responses = worker.respond(*good[:PLACE], wrong, *good[PLACE:])
    check_refusal(responses.pop(PLACE), bad, decoding)
    for response, part in zip(responses, slices, strict=True):
        check(response, expected[part])


def test_a_batch_of_nothing_but_wrong_requests_is_answered_one_by_one(worker, decoding):
    bad = bad_requests()
    responses = worker.respond(*((each.content_type, each.body, {}) for each in bad))
    for response, each in zip(responses, bad, strict=True):
        check_refusal(response, each, decoding)


@pytest.mark.parametrize("form", range(4), ids=["json", "raw", "npy", "png"])
def test_a_thousand_digits_in_one_request_or_in_many_are_answered_alike(worker, digits, expected, decoding, form):
    rows = digits[0].numpy()
    if form != 3:
        check(worker.respond(digit_request(rows, form))[0], expected)
    for start in range(0, 256, 64):
        part = range(start, start + 64)
        for index, response in zip(
            part, worker.respond(*(digit_request(rows[i : i + 1], form) for i in part)), strict=True
        ):
            check(response, expected[index : index + 1])


def test_each_request_of_a_batch_gets_the_media_type_that_it_accepts(worker, digits, expected):
    row = digits[0][:1].numpy()
    accepts = ["", f"{JSON};q=0.1, {NPY}", "*/*;q=0", f"text/html, {NPY};q=0.9, */*;q=0.8"]
    responses = worker.respond(*((RAW, row.astype("<f4").tobytes(), {"accept": accept}) for accept in accepts))
    refused = responses.pop(2)
    assert [content_type for _, content_type, _ in responses] == [JSON, NPY, NPY]
    for response in responses:
        check(response, expected[:1])
    assert refused[:2] == (406, JSON)
    assert orjson.loads(refused[2])["type"] == "NotAcceptable"


def test_the_accuracy_is_that_of_the_network(worker, digits):
    (response,) = worker.respond(digit_request(digits[0].numpy(), 1))
    classes = [prediction["index"] for prediction in orjson.loads(response[2])["predictions"]]
    assert np.mean(np.array(classes) == digits[1].numpy()) >= 0.9


def test_the_bundled_digit_is_a_seven(worker):
    (response,) = worker.respond((PNG, resource("data/digit.png").read_bytes(), {}))
    assert orjson.loads(response[2])["predictions"][0]["label"] == "7"


CONV_NET = '''
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Side:
    pixels: int


class ConvNet(nn.Module):
    """Rows of side x side pixels to logits."""

    def __init__(self, side: int, channels: int, num_classes: int) -> None:
        super().__init__()
        self.side = Side(side)
        self.config = {"side": side, "channels": channels, "num_classes": num_classes}
        self.conv = nn.Conv2d(1, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels * side * side, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        images = x.view(-1, 1, self.side.pixels, self.side.pixels)
        return self.head(self.norm(self.conv(images)).relu().flatten(1))
'''


def test_a_network_of_the_users_own_is_archived_and_served(tmp_path):
    module = tmp_path / "my_net.py"
    module.write_text(CONV_NET)
    torch.manual_seed(0)
    model = load_network(module, "ConvNet")(side=8, channels=3, num_classes=2)
    rows = torch.rand(5, 64)
    save_for_inference(model, tmp_path / "conv.pt", classes=["cat", "dog"], golden_inputs=rows)
    archive = create_archive(tmp_path / "conv.pt", model_name="conv", export_path=tmp_path, model_file=module)
    worker = Worker(archive, tmp_path / "unpacked")
    responses = worker.respond((RAW, rows.numpy().tobytes(), {"Accept": NPY}), digit_request(rows.numpy(), 0))
    with torch.inference_mode():
        probabilities = torch.softmax(model.eval()(rows), dim=1).numpy()
    check(responses[0], probabilities)
    assert responses[1][0] == 400  # top_k of 3, and there are two classes
    assert "top_k: expected a whole number from 1 to 2, found 3" in responses[1][2].decode()
