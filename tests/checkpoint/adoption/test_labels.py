"""Labels in every form that others use; what is odd gives no labels and one line, never an error."""

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch

from simplenet.checkpoint.adoption.labels import class_labels, find_labels

GIVEN: dict[str, tuple[object, list[str]]] = {
    "list": (["cat", "dog"], ["cat", "dog"]),
    "tuple": (("cat", "dog"), ["cat", "dog"]),
    "ints": ([7, 9], ["7", "9"]),
    "bytes": ([b"cat", b"dog"], ["cat", "dog"]),
    "two classes of one name": (["crane", "crane"], ["crane", "crane"]),
    "index to name": ({1: "dog", 0: "cat"}, ["cat", "dog"]),
    "numeric text to name": ({"1": "dog", "0": "cat"}, ["cat", "dog"]),
    "name to index": (OrderedDict(dog=1, cat=0), ["cat", "dog"]),
    "digits to index": ({"3": 0, "5": 1}, ["3", "5"]),
    "index to id": ({0: 3, 1: 5}, ["3", "5"]),
    "name to tensor": ({"cat": torch.tensor(0), "dog": torch.tensor(1)}, ["cat", "dog"]),
    "tensor": (torch.tensor([0, 1]), ["0", "1"]),
    "array of ids": (np.array([30, 50]), ["30", "50"]),
    "array of names": (np.array(["cat", "dog"]), ["cat", "dog"]),
    "numpy ints": ([np.int64(3), np.uint8(5)], ["3", "5"]),
    "commas": ("cat, dog", ["cat", "dog"]),
    "semicolons": ("cat;dog", ["cat", "dog"]),
    "lines": ("cat\ndog\n", ["cat", "dog"]),
    "JSON": ('{"0": "cat", "1": "dog"}', ["cat", "dog"]),
    "JSON list": ('["cat", "dog"]', ["cat", "dog"]),
    "long": (["x" * 300, "y"], ["x" * 200, "y"]),
}


@pytest.mark.parametrize("form", GIVEN)
def test_labels_are_found(form: str) -> None:
    value, expected = GIVEN[form]
    labels, note = class_labels(value, 2, "m.pt: classes")
    assert labels == expected
    assert note is None
    assert labels is not None
    assert {type(label) for label in labels} == {str}


class Hostile:
    """Fails whenever it is looked at."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class HostileDict(dict[Any, Any]):
    def get(self, *_: object) -> Any:
        raise RuntimeError

    def items(self) -> Any:
        raise RuntimeError


REFUSED: dict[str, tuple[object, str]] = {
    "too few": (["cat"], "found 1"),
    "too many": (["cat", "dog", "cow"], "found 3"),
    "none": ([], "found 0"),
    "missing index": ({0: "cat", 2: "dog"}, "whose indices are not 0 to 1"),
    "from 1": ({1: "cat", 2: "dog"}, "whose indices are not 0 to 1"),
    "one index twice": ({"cat": 0, "dog": 0}, "whose indices are not 0 to 1"),
    "the same index as int and text": ({0: "cat", "0": "dog"}, "whose indices are not 0 to 1"),
    "names to names": ({"a": "cat", "b": "dog"}, "neither index to name nor name to index"),
    "the count": (2, "only their number"),
    "another count": (3, "the number 3"),
    "a bool": (True, "type bool"),
    "a set": ({"cat", "dog"}, "no order"),
    "one word": ("cat", "does not split"),
    "text of two readings": ("a,b;c", "does not split"),
    "an empty part": ("cat,", "does not split"),
    "invalid UTF-8": (b"\xff,\xfe", "not UTF-8"),
    "matrix": (torch.zeros(2, 2), "2 dimensions"),
    "floats": ([0.5, 1.5], "item of type float"),
    "nested": ([["cat"], ["dog"]], "item of type list"),
    "huge ints": ([10**5000, 1], "item of type int"),
    "huge index": ({10**5000: "cat", 1: "dog"}, "neither index to name"),
    "hostile": (Hostile(), "class labels"),
    "hostile item": ([Hostile(), "dog"], "class labels"),
    "hostile dict": (HostileDict(), "cannot be read"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_gives_no_labels_says_why_in_one_line(form: str) -> None:
    value, told = REFUSED[form]
    labels, note = class_labels(value, 2, "m.pt: classes")
    assert labels is None
    assert note is not None
    assert note.startswith("m.pt: classes: expected 2 class labels, ")
    assert told in note
    assert "\n" not in note


def test_none_has_no_note() -> None:
    assert class_labels(None, 2, "m.pt") == (None, None)


def test_a_hostile_entry_hides_no_other() -> None:
    assert find_labels({"classes": ["cat"], "meta": Hostile(), "args": {"names": ["dog"]}}) == [
        ("classes", ["cat"]),
        ("args.names", ["dog"]),
    ]


def test_candidates_are_found_in_order_and_no_deeper_than_three() -> None:
    deep = {"config": {"config": {"labels": [1], "config": {"labels": [2]}}, "id2label": {0: "a"}}}
    tree = {"state_dict": {"labels": 3}, "classes": ["cat"], "names": None, "meta": {"CLASSES": ("dog",)}, **deep}
    assert find_labels(tree) == [
        ("classes", ["cat"]),
        ("meta.CLASSES", ("dog",)),
        ("config.id2label", {0: "a"}),
        ("config.config.labels", [1]),
    ]


ODD: dict[str, object] = {
    "none": None,
    "number": 3,
    "list": [],
    "hostile": Hostile(),
    "hostile dict": HostileDict(meta=1),
    "hostile meta": {"meta": Hostile()},
    "other keys": {1: 2},
}


@pytest.mark.parametrize("tree", ODD)
def test_odd_trees_have_no_candidates(tree: str) -> None:
    assert find_labels(ODD[tree]) == []
