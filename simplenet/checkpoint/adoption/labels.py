"""Class labels as others store them: lists, mappings in both directions, arrays, text.

The values come from files of strangers: nothing here fails, whatever they are, and a label is never guessed.
"""

import re
from collections.abc import Container, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import orjson
import torch

from simplenet.checkpoint.reading.stand_in import StandIn

_LABEL_KEYS = (
    *("classes", "CLASSES", "class_names", "categories", "class_to_idx", "idx_to_class", "index_to_name"),
    *("id2label", "label2id", "labels", "label_names", "names", "vocab"),
)
_BY_NAME, _BY_INDEX = ("class_to_idx", "label2id"), ("idx_to_class", "index_to_name", "id2label")
_HOLDERS = ("meta", "metadata", "hyper_parameters", "hparams", "config", "args", "dataset_meta")
_DEPTH = 3  # mappings, the checkpoint included, that are looked into
_LONGEST = 200  # characters of a label
_MOST_DIGITS = 18  # of an index or an id: what fits an int64
_DEEPEST_WRAPPER = 3  # objects around one list: fastai's vocab is a CategoryMap of an L of a list
_WEIGHT = re.compile(r"\.(weight|bias|running_mean|running_var|num_batches_tracked|in_proj_weight|in_proj_bias)$")
_NUMBERED = re.compile(r"(LABEL_)?\d+")  # Transformers writes LABEL_0 where nobody named the classes
_SEPARATORS = {"\n": "lines", ",": "commas", ";": "semicolons"}

NUMBERED = "; the classes are numbered"  # how a line ends that says why there are no labels

Labels = tuple[list[str] | None, str | None]


def class_labels(
    value: object, num_classes: int, source: str, *, weights: Container[str] = (), ours: bool = False
) -> Labels:
    """One label per class, in order, and None; or None, and a line that says why the value gives none.

    Args:
        value: a list, tuple or array of names or ids; a mapping from index to name or from name to index; text that
            separates names by commas, semicolons or lines, or holds JSON; a count; None.
        num_classes: how many labels there must be.
        source: where the value was found, for the line; its last word tells which way a mapping of numbers goes.
        weights: names of weights and layers, which are no labels.
        ours: `save_for_inference` stored it, so it is known to be labels; two classes may have one name.

    Returns:
        `(labels, None)`, `(None, note)`, or `(None, None)` if the value is None. Never raises.

    Example:
        >>> class_labels({"cat": 0, "dog": 1}, 2, "model.pt: class_to_idx")
        (['cat', 'dog'], None)
        >>> class_labels(["cat"], 2, "model.pt: classes")
        (None, 'model.pt: classes: expected 2 class labels, found 1; the classes are numbered')
    """
    if value is None:
        return None, None
    try:
        found = _labels(_unpacked(value), num_classes, key=re.split(r"[.: ]", source)[-1])
        if isinstance(found, list):
            wrong = f"found {len(found):,}" if len(found) != num_classes else "" if ours else _no_labels(found, weights)
            if not wrong:
                return found, None
            found = wrong
    except Exception:  # an object may fail in any way when it is looked at
        found = "found a value that cannot be read"
    return None, f"{source}: expected {num_classes:,} class labels, {found}{NUMBERED}"


def labels_in(
    places: list[tuple[str, Any]], num_classes: int, weights: Container[str] = (), *, ours: bool = False
) -> tuple[list[str] | None, str, list[str]]:
    """The labels that all places agree on, the place they are taken from, and a line for each that has none.

    Example:
        >>> labels_in([("classes", ["cat", "dog"]), ("names", 2)], 2)  # doctest: +NORMALIZE_WHITESPACE
        (['cat', 'dog'], 'classes',
         ['names: expected 2 class labels, found only their number; left aside'])
    """
    found: dict[str, list[str]] = {}
    notes: list[str] = []
    for place, value in places:
        labels, note = class_labels(value, num_classes, place, weights=weights, ours=ours)
        if labels:
            found[place] = labels
        notes += [note] if note else []
    taken, contradiction = agreed(found)
    if taken is None:
        return None, "", notes + ([contradiction] if contradiction else [])
    return found[taken], taken, [f"{note.removesuffix(NUMBERED)}; left aside" for note in notes]


def agreed(found: Mapping[str, list[str]]) -> tuple[str | None, str]:
    """Which of several places to take the labels from, and a line if they contradict each other.

    Example:
        >>> agreed({"labels": ["0", "1"], "meta.CLASSES": ["cat", "dog"]})
        ('meta.CLASSES', '')
        >>> agreed({"classes": ["cat", "dog"], "class_to_idx": ["dog", "cat"]})
        (None, "classes: 'classes' and 'class_to_idx' name them differently; the classes are numbered")
    """
    named = {place: labels for place, labels in found.items() if not all(map(_NUMBERED.fullmatch, labels))}
    places = list(named or found)  # numbers contradict no names
    other = next((place for place in places if found[place] != found[places[0]]), None)
    if other is not None:
        return None, f"classes: {places[0]!r} and {other!r} name them differently{NUMBERED}"
    return (places[0] if places else None), ""


def find_labels(tree: object) -> list[tuple[str, Any]]:
    """The values beside the weights that usually hold labels, each with its path, the likeliest first.

    Example:
        >>> find_labels({"state_dict": {}, "meta": {"CLASSES": ("cat", "dog")}})
        [('meta.CLASSES', ('cat', 'dog'))]
    """
    try:
        return _candidates(tree, "", _DEPTH)
    except Exception:  # as above
        return []


def attributes_of(value: object) -> list[Mapping[Any, Any]]:
    """A dict, or the attributes and entries of an object: Namespace has the first, AttributeDict the second.

    Example:
        >>> attributes_of({"lr": 0.1}), attributes_of(StandIn("argparse", "Namespace"))
        ([{'lr': 0.1}], [])
    """
    parts = (value.state, value.entries) if isinstance(value, StandIn) else (value,)
    return [part for part in parts if isinstance(part, Mapping) and part]


def _candidates(tree: object, path: str, depth: int) -> list[tuple[str, Any]]:
    if isinstance(tree, StandIn):
        return [pair for part in attributes_of(tree) for pair in _candidates(part, path, depth)]
    if not isinstance(tree, Mapping) or depth == 0:
        return []
    found = [(path + key, tree[key]) for key in _LABEL_KEYS if tree.get(key) is not None]
    for key in _HOLDERS:
        with suppress(Exception):  # one that cannot be looked at hides no other
            found += _candidates(tree.get(key), f"{path}{key}.", depth - 1)
    return found


def _unpacked(value: object) -> object:
    """The list or mapping in an object that is mainly that."""
    for _ in range(_DEEPEST_WRAPPER):
        if not isinstance(value, StandIn):
            break
        state = value.state if isinstance(value.state, Mapping) else {}
        value = value.items or value.entries or state.get("items", value)
    return value


def _no_labels(found: list[str], weights: Container[str]) -> str:
    """What the texts are, if they are no names of classes: those differ, and are not those of weights."""
    if found and (any(map(_WEIGHT.search, found)) or all(name in weights for name in found)):
        return "found names of weights"
    seen: set[str] = set()
    for name in found:
        if name in seen:
            return f"found {name[:60]!r} more than once"
        seen.add(name)
    return ""


def _labels(value: object, num_classes: int, *, key: str = "", in_text: bool = False) -> list[str] | str:
    """The labels, or what was found in place of them."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return _labels_of_array(value, num_classes)
    if isinstance(value, (list, tuple)):
        return _labels_of_items(value, num_classes)
    if isinstance(value, Mapping):
        return _labels_of_mapping(value, num_classes, key)
    if isinstance(value, (bytes, str)) and not in_text:
        return _labels_of_text(_text(value), num_classes, key)
    if (count := _index(value)) is not None:
        return "found only their number" if count == num_classes else f"found the number {count:,}"
    is_set = isinstance(value, (set, frozenset))
    return f"found a {'set, which has no order' if is_set else f'value of type {type(value).__name__[:40]}'}"


def _labels_of_array(array: "torch.Tensor | np.ndarray[Any, Any]", num_classes: int) -> list[str] | str:
    if array.ndim == 0:
        return "found a single number"
    if array.ndim != 1:
        return f"found an array of {array.ndim} dimensions"
    return _labels_of_items(array.tolist(), num_classes) if len(array) == num_classes else f"found {len(array):,}"


def _labels_of_items(items: "list[Any] | tuple[Any, ...]", num_classes: int) -> list[str] | str:
    if len(items) != num_classes:  # before each is looked at: there may be millions
        return f"found {len(items):,}"
    texts = [_text(item) for item in items]
    if None in texts:
        wrong = type(items[texts.index(None)]).__name__[:40]
        return f"found a list with an item of type {wrong}"
    return [text[:_LONGEST] for text in texts if text is not None]


def _labels_of_mapping(mapping: Mapping[Any, Any], num_classes: int, source_key: str) -> list[str] | str:
    """Labels by index or indices by label; a name that is digits is an index only where no label has an index."""
    view = mapping.items()
    if len(view) != num_classes:
        return f"found {len(view):,}"
    pairs = list(view)
    if _reads_both_ways(pairs):
        if source_key not in (*_BY_NAME, *_BY_INDEX):
            return "found a mapping of numbers that can be read both ways"
        if source_key in _BY_NAME:
            pairs = [(item, key) for key, item in pairs]
    elif pairs and all(isinstance(key, (str, bytes)) and _index(item) is not None for key, item in pairs):
        pairs = [(item, key) for key, item in pairs]
    indices = [_index(key, numeric_text=True) for key, _ in pairs]
    if None in indices:
        return "found a mapping that is neither index to name nor name to index"
    if sorted(index for index in indices if index is not None) != list(range(len(pairs))):
        return f"found a mapping whose indices are not 0 to {len(pairs) - 1}, each once"
    by_index = dict(zip(indices, (item for _, item in pairs), strict=True))
    return _labels_of_items([by_index[index] for index in range(len(pairs))], num_classes)


def _reads_both_ways(pairs: list[tuple[Any, Any]]) -> bool:
    """Whether keys and items are the same numbers from 0 on, and in another order."""
    keys = [_index(key, numeric_text=True) for key, _ in pairs]
    items = [_index(item, numeric_text=True) for _, item in pairs]
    every = set(range(len(pairs)))
    return keys != items and set(keys) == every and set(items) == every


def _labels_of_text(text: str | None, num_classes: int, key: str) -> list[str] | str:
    if text is None:
        return "found bytes that are not UTF-8 text"
    if text.lstrip()[:1] in ("[", "{"):
        try:
            return _labels(orjson.loads(text), num_classes, key=key, in_text=True)
        except orjson.JSONDecodeError:
            pass
    splits = [[part.strip() for part in text.strip().split(separator)] for separator in _SEPARATORS]
    fitting = [parts for parts in splits if len(parts) == num_classes > 1 and all(parts)]
    if len(fitting) != 1:
        return f"found text that does not split into them: {text[:60]!r}"
    return [part[:_LONGEST] for part in fitting[0]]


def _text(value: object) -> str | None:
    """The label that a plain value is, or None."""
    if isinstance(value, bytes):  # CIFAR's own files
        try:
            value = value.decode()
        except UnicodeDecodeError:
            return None
    if isinstance(value, str):
        return str.__str__(value)
    index = _index(value)
    return None if index is None else str(index)


def _index(value: object, *, numeric_text: bool = False) -> int | None:
    """The int of at most 18 digits that a value is, if it is one; a bool is none."""
    if isinstance(value, (torch.Tensor, np.ndarray)) and value.ndim == 0:
        value = value.item()
    if numeric_text and isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS:
        value = int(value)
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and abs(int(value)) < 10**_MOST_DIGITS:
        return int(value)
    return None
