"""Rows that make a user's network fail, and answers that are too large: one request fails, no neighbour, no worker."""

import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests
import torch
from own_networks import written
from support import Running, worker_pids

from simplenet import create_archive, save_for_inference

POISONED_NET = """
import os
from torch import nn


class Poisoned(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 10)

    def forward(self, x):
        first = set(x[:, 0].tolist())
        if 666 in first:
            raise RuntimeError("secret")
        if 667 in first:
            raise SystemExit(1)
        if 668 in first:
            os._exit(1)
        return self.layer(x)
"""
NAMES = {666.0: "RuntimeError", 667.0: "SystemExit", 668.0: "os._exit"}
RAW = {"Content-Type": "application/octet-stream"}
CLIENTS = 32
ROUNDS = 12
MANY = 600_000  # rows: 9.6 MB in, more than 32 MiB of JSON out


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    """The network, and a model store with it; a batch waits for others, so that poison has neighbours."""
    folder = tmp_path_factory.mktemp("poisoned")
    torch.manual_seed(5)
    module, network_class = written(folder, POISONED_NET, "Poisoned")
    network = network_class().eval()
    save_for_inference(network, folder / "net.pt", model_config={}, golden_inputs=torch.rand(4, 4))
    profile = folder / "profile.yaml"
    profile.write_text("batchSize: 64\nmaxBatchDelay: 20\nresponseTimeout: 60\nstartupTimeout: 120\n")
    create_archive(
        folder / "net.pt", model_name="simplenet", export_path=folder / "store", model_file=module,
        model_class="Poisoned", profile=profile,
    )  # fmt: skip
    return network, folder / "store"


@pytest.fixture(scope="module")
def server(start_shared_server: Callable[..., Running], network: tuple[torch.nn.Module, Path]) -> Running:
    return start_shared_server("--model-store", network[1])


def test_poison_fails_alone_and_every_neighbour_is_answered(server, network):
    pids = worker_pids(server.port)
    rows = torch.rand(CLIENTS, 4, generator=torch.Generator().manual_seed(6))
    with torch.inference_mode():
        expected = torch.softmax(network[0].layer(rows), dim=1).numpy()

    def good(client: int) -> Counter[int]:
        body, statuses = rows[client].numpy().tobytes(), Counter[int]()
        with requests.Session() as session:
            for _ in range(ROUNDS):
                headers = {**RAW, "Accept": "application/octet-stream"}
                answer = session.post(server.predictions, data=body, headers=headers, timeout=60)
                statuses[answer.status_code] += 1
                assert answer.status_code == 200, answer.text
                assert np.abs(np.frombuffer(answer.content, "<f4") - expected[client]).max() < 1e-5
        return statuses

    def poison(first: float) -> list[tuple[int, str, str]]:
        body = np.array([first, 0, 0, 0], "<f4").tobytes()
        with requests.Session() as session:
            answers = [session.post(server.predictions, data=body, headers=RAW, timeout=60) for _ in range(ROUNDS)]
        return [(answer.status_code, answer.json()["type"], answer.json()["message"]) for answer in answers]

    with ThreadPoolExecutor(CLIENTS + len(NAMES)) as pool:
        neighbours = pool.map(good, range(CLIENTS))
        failures = dict(zip(NAMES, pool.map(poison, NAMES), strict=True))
        assert sum(neighbours, Counter()) == {200: CLIENTS * ROUNDS}
    for first, name in NAMES.items():
        assert {(status, kind) for status, kind, _ in failures[first]} == {(500, name)}
        message = f"the network raised {name} for this request; trying again is of no use"
        assert all(message in said and "secret" not in said for _, _, said in failures[first])
    assert worker_pids(server.port) == pids


def test_an_answer_that_is_too_large_is_413_and_as_many_rows_as_it_names_are_answered(server):
    pids = worker_pids(server.port)
    body = np.random.default_rng(0).random((MANY, 4), np.float32).tobytes()
    refused = requests.post(server.predictions, data=body, headers=RAW, timeout=120)
    assert refused.status_code == 413, refused.text[:200]
    error = refused.json()
    assert (error["code"], error["type"]) == (413, "ResponseTooLarge")
    found = re.fullmatch(
        rf"response: expected at most (\d+) bytes, found (\d+) for {MANY} rows; send at most (\d+) rows at a time, "
        r"or ask for application/x-npy",
        error["message"],
    )
    assert found, error["message"]
    limit, size, rows = map(int, found.groups())
    assert size > limit > 0.8 * size * rows / MANY
    answered = requests.post(server.predictions, data=body[: rows * 16], headers=RAW, timeout=120)
    assert answered.status_code == 200, answered.text[:200]
    assert len(answered.json()["predictions"]) == rows
    as_npy = requests.post(server.predictions, data=body, headers={**RAW, "Accept": "application/x-npy"}, timeout=120)
    assert as_npy.status_code == 200
    assert len(as_npy.content) == 128 + MANY * 40
    assert worker_pids(server.port) == pids


def test_a_batch_of_large_answers_is_answered_whole(server):
    pids = worker_pids(server.port)
    rows = 150_000  # 6 MB out
    bodies = [np.random.default_rng(seed).random((rows, 4), np.float32).tobytes() for seed in range(12)]
    headers = {**RAW, "Accept": "application/x-npy"}

    def ask(body: bytes) -> requests.Response:
        return requests.post(server.predictions, data=body, headers=headers, timeout=120)

    with ThreadPoolExecutor(len(bodies)) as pool:
        answers = list(pool.map(ask, bodies))
    assert [answer.status_code for answer in answers] == [200] * len(bodies)
    assert len({answer.content for answer in answers}) == len(bodies)
    assert {len(answer.content) for answer in answers} == {128 + rows * 40}
    assert worker_pids(server.port) == pids
