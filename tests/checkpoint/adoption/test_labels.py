"""Labels in every form that others use; what is odd gives no labels and one line, never an error."""

import argparse
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simplenet.checkpoint.adoption.labels import class_labels, find_labels
from simplenet.checkpoint.load import load_any
from simplenet.checkpoint.reading.stand_in import StandIn
from simplenet.checkpoint.save import save_for_inference
from simplenet.model import SimpleNet

GIVEN: dict[str, tuple[object, list[str]]] = {
    "list": (["cat", "dog"], ["cat", "dog"]),
    "tuple": (("cat", "dog"), ["cat", "dog"]),
    "ints": ([7, 9], ["7", "9"]),
    "bytes": ([b"cat", b"dog"], ["cat", "dog"]),
    "index to name": ({1: "dog", 0: "cat"}, ["cat", "dog"]),
    "numeric text to name": ({"1": "dog", "0": "cat"}, ["cat", "dog"]),
    "name to index": (OrderedDict(dog=1, cat=0), ["cat", "dog"]),
    "digits to index": ({"3": 0, "5": 1}, ["3", "5"]),
    "digits to the same index": ({"1": 1, "0": 0}, ["0", "1"]),
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
    "two classes of one name": (["crane", "crane"], "'crane' more than once"),
    "training targets": (torch.tensor([1, 1]), "'1' more than once"),
    "names of weights": (["fc1.weight", "fc1.bias"], "names of weights"),
    "numbers that read both ways": ({"0": 1, "1": 0}, "can be read both ways"),
    "an object": (StandIn("a", "B"), "type StandIn"),
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


def namespace(**state: object) -> StandIn:
    made = StandIn("argparse", "Namespace")
    made.state = state
    return made


def test_objects_are_looked_into() -> None:
    attributes = StandIn("lightning", "AttributeDict")
    attributes.entries = {"names": ["dog"]}
    tree = {"hyper_parameters": namespace(classes=["cat"], config=attributes), "vocab": ["cow"]}
    assert find_labels(tree) == [
        ("vocab", ["cow"]),
        ("hyper_parameters.classes", ["cat"]),
        ("hyper_parameters.config.names", ["dog"]),
    ]
    assert find_labels(namespace(classes=["cat"])) == [("classes", ["cat"])]


def test_an_object_that_contains_itself_ends() -> None:
    itself = namespace(classes=["cat"])
    itself.state["config"] = itself
    assert len(find_labels({"args": itself})) == 2
    around = StandIn("fastai", "L")
    around.state = {"items": around}
    assert class_labels(around, 2, "vocab")[0] is None


def test_the_vocab_of_fastai_gives_labels() -> None:
    inner, outer = StandIn("fastcore.foundation", "L"), StandIn("fastai.data.transforms", "CategoryMap")
    inner.state = {"items": ["cat", "dog"]}
    outer.state = {"items": inner, "sort": True}
    assert class_labels(outer, 2, "vocab") == (["cat", "dog"], None)


def test_the_name_of_a_mapping_of_numbers_tells_which_way_it_goes() -> None:
    mapping = {"0": 1, "1": 2, "2": 0}
    assert class_labels(mapping, 3, "m.pt: meta.class_to_idx") == (["2", "0", "1"], None)
    assert class_labels(mapping, 3, "m.pt: id2label") == (["1", "2", "0"], None)


def adopted(folder: Path, **entries: object) -> tuple[Any, list[str]]:
    """The labels of a file with these entries beside the weights, and the lines about them."""
    torch.save({"state_dict": SimpleNet(5, 8, 4).state_dict(), **entries}, folder / "m.pt")
    found = load_any(folder / "m.pt")
    return found.checkpoint.get("classes"), [
        note for note in found.notes if not note.startswith(("no ", "weights:", "left aside:"))
    ]


def test_a_list_of_text_is_taken_without_a_line(tmp_path: Path) -> None:
    assert adopted(tmp_path, classes=list("abcd")) == (list("abcd"), [])


def test_a_line_says_where_labels_come_from(tmp_path: Path) -> None:
    assert adopted(tmp_path, meta={"CLASSES": tuple("abcd")}) == (list("abcd"), ["classes: from 'meta.CLASSES'"])
    assert adopted(tmp_path, classes=tuple("abcd")) == (list("abcd"), ["classes: from 'classes'"])
    arguments = argparse.Namespace(classes=list("abcd"))
    assert adopted(tmp_path, hyper_parameters=arguments) == (
        list("abcd"),
        ["classes: from 'hyper_parameters.classes'"],
    )


@pytest.mark.parametrize(
    "entries",
    [
        {"names": ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]},
        {"names": ["fc1", "fc2", "fc1.weight", "fc2.weight"]},
        {"labels": torch.tensor([3, 1, 0, 0])},
        {"classes": list("aaaa")},
        {"labels": {"0": 3, "1": 2, "2": 1, "3": 0}},
    ],
)
def test_what_is_no_list_of_labels_leaves_the_classes_numbered(tmp_path: Path, entries: dict[str, object]) -> None:
    labels, notes = adopted(tmp_path, **entries)
    assert labels is None
    assert len(notes) == 1
    assert notes[0].endswith("; the classes are numbered")


def test_places_that_contradict_each_other_give_no_labels(tmp_path: Path) -> None:
    reverse = {name: 3 - index for index, name in enumerate("abcd")}
    assert adopted(tmp_path, classes=list("abcd"), class_to_idx=reverse) == (
        None,
        ["classes: 'classes' and 'class_to_idx' name them differently; the classes are numbered"],
    )


def test_training_targets_beside_labels_are_left_aside(tmp_path: Path) -> None:
    labels, notes = adopted(tmp_path, classes=list("abcd"), labels=torch.tensor([3, 1, 0, 0]))
    assert labels == list("abcd")
    assert notes == ["labels: expected 4 class labels, found '0' more than once; left aside"]
    assert adopted(tmp_path, classes=list("abcd"), labels=[3, 1, 0, 2]) == (list("abcd"), [])


def test_a_file_of_ours_keeps_two_classes_of_one_name(tmp_path: Path) -> None:
    save_for_inference(SimpleNet(5, 8, 3), tmp_path / "m.pt", classes=["crane", "crane", "cat"])
    assert load_any(tmp_path / "m.pt").checkpoint["classes"] == ["crane", "crane", "cat"]
