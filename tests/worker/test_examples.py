"""The examples in the docstrings of the worker and the client."""

import doctest
import importlib
import pkgutil

import pytest

import simplenet.client
import simplenet.worker

MODULES = [
    module.name
    for room in (simplenet.worker, simplenet.client)
    for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}.")
]
EXEMPLARY = [
    "accept",
    "decode",
    "encode",
    "model_spec",
    "formats.json_body",
    "formats.npy",
    "formats.raw",
    "formats.table",
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_give_what_they_show(name):
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0


@pytest.mark.parametrize("name", EXEMPLARY)
def test_a_module_has_an_example(name):
    assert doctest.testmod(importlib.import_module(f"simplenet.worker.{name}")).attempted > 0
