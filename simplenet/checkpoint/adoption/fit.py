"""Fit a candidate's tensors to a network: strip prefixes, map names, and say what was done.

Nothing is guessed where two answers are possible: then there is no fit, and the reason says why.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise, permutations
from typing import Any

from simplenet.checkpoint.adoption.candidates import Candidate, is_copy
from simplenet.checkpoint.adoption.names import below, is_counter, is_of_loss, natural_key, prefixes, without_wrappers
from simplenet.checkpoint.adoption.reparametrized import fold
from simplenet.checkpoint.state_dict import fitting_config
from simplenet.text import quoted

_MOST_PREFIXES = 64
_MOST_UNNUMBERED = 4  # layers whose order is sought when their names have no numbers
_HARMLESS = ("Dropout", "Flatten", "Identity", "Softmax", "LogSoftmax", "Unflatten")  # between or after the layers
_RELU = "ReLU"


@dataclass(frozen=True)
class Fit:
    """Tensors of a candidate under a network's names."""

    tensors: dict[str, Any]
    prefix: str  # stripped from the names, after what wrappers add
    stored_names: dict[str, str]  # network's name to the file's, where they differ
    left_aside: tuple[str, ...]  # names in the file of tensors that the network does not have
    notes: tuple[str, ...] = ()  # what was computed or assumed, one line each
    made: tuple[str, ...] = ()  # names of the biases that the file lacks
    config: dict[str, Any] | None = field(default=None)  # of a SimpleNet, from the shapes


def fits_of_simplenet(candidate: Candidate, source: str) -> list[Fit]:
    """Every way to read a SimpleNet from the candidate; the likeliest first, none if it holds another network.

    Example:
        >>> import torch
        >>> layers = {"0.weight": (8, 4), "0.bias": (8,), "2.weight": (3, 8), "2.bias": (3,)}
        >>> tensors = {f"net.{name}": torch.zeros(shape) for name, shape in layers.items()}
        >>> fit = fits_of_simplenet(Candidate("", tensors), "model.pt")[0]
        >>> fit.config, fit.prefix, fit.stored_names["fc1.weight"]
        ({'input_size': 4, 'hidden_size': 8, 'num_classes': 3}, 'net.', 'net.0.weight')
    """
    if candidate.module and (_other_layers(candidate)):
        return []
    named, origin = _bare(candidate, source)
    folded = fold(named)
    fits: dict[frozenset[str], Fit] = {}  # by the tensors used: the longest prefix says most
    for prefix in prefixes(folded.state_dict)[:_MOST_PREFIXES]:
        inner = {name: t for name, t in below(folded.state_dict, prefix).items() if not is_counter(name)}
        mapping = _mlp_names({name: t for name, t in inner.items() if not is_of_loss(name)})
        if not mapping:
            continue
        lacking = tuple(new for new, old in mapping.items() if not old)
        tensors = _with_biases({new: inner[old] for new, old in mapping.items() if old}, list(mapping))
        notes = [f"no {quoted(lacking)}: zeros stand for layers without a bias"] if lacking else []
        config = fitting_config(tensors)
        if config is None:
            continue
        used = {f"{prefix}{old}" for old in mapping.values()}
        others = [name for name in folded.state_dict if name not in used]
        if not _are_harmless(others, folded.state_dict, used):
            continue
        stored = {new: origin.get(f"{prefix}{old}", f"{prefix}{old}") for new, old in mapping.items() if old}
        aside = tuple(origin.get(name, name) for name in others)
        fits[frozenset(used)] = Fit(
            tensors, prefix, _differing(stored), aside, (*folded.notes, *notes), lacking, config
        )
    return sorted(fits.values(), key=lambda fit: (is_copy(fit.prefix), fit.prefix.count(".")))


def fits_of_network(candidate: Candidate, wanted: Mapping[str, Any], source: str) -> list[Fit]:
    """Every way to read the weights of a network from the candidate, the likeliest first.

    Args:
        candidate: from the file.
        wanted: the network's own state_dict; shapes count, values only for BatchNorm's counters that old files lack.
        source: the file, in messages.
    """
    named, origin = _bare(candidate, source)
    raw = {name: name for name in candidate.tensors}
    folded = fold(named)
    attempts = [(candidate.tensors, raw, ()), (named, origin, ()), (folded.state_dict, origin, folded.notes)]
    for tensors, origin_of, notes in attempts:
        fits = list(_prefixed_fits(tensors, origin_of, wanted, notes))
        if fits:
            return sorted(fits, key=lambda fit: (is_copy(fit.prefix), fit.prefix.count(".")))
    fit = _fit_by_order(named, origin, wanted)
    return [fit] if fit else []


def _prefixed_fits(
    tensors: Mapping[str, Any], origin: Mapping[str, str], wanted: Mapping[str, Any], notes: tuple[str, ...]
) -> Iterator[Fit]:
    """A fit for each prefix, of the file or of the network (which may wrap what was saved), that makes names equal."""
    outer = [prefix for prefix in prefixes(wanted) if all(name.startswith(prefix) for name in wanted)]
    for prefix in prefixes(tensors)[:_MOST_PREFIXES]:
        inner = below(tensors, prefix)
        for added in outer:
            names = {name: name[len(added) :] for name in wanted}
            counted = {name for name, old in names.items() if old.endswith("num_batches_tracked") and old not in inner}
            found = {name: inner[old] for name, old in names.items() if old in inner}
            if set(found) | counted != set(wanted) or any(found[n].shape != wanted[n].shape for n in found):
                continue
            used = {f"{prefix}{names[name]}" for name in found}
            others = [name for name in tensors if name not in used]
            if not _are_harmless(others, tensors, used):
                continue
            complete = {name: found.get(name, wanted[name]) for name in wanted}
            stored = {name: origin.get(f"{prefix}{names[name]}", f"{prefix}{names[name]}") for name in found}
            aside = tuple(origin.get(name, name) for name in others)
            yield Fit(complete, prefix, _differing(stored), aside, notes)
            break


def _fit_by_order(tensors: Mapping[str, Any], origin: Mapping[str, str], wanted: Mapping[str, Any]) -> Fit | None:
    """Other names for the same shapes, if only one assignment is possible."""
    left = {name: tensor for name, tensor in tensors.items() if not is_counter(name)}
    if len(left) != len(wanted):
        return None
    shapes = [tuple(tensor.shape) for tensor in left.values()]
    expected = [tuple(tensor.shape) for tensor in wanted.values()]
    kinds = [name.rpartition(".")[2] for name in left] == [name.rpartition(".")[2] for name in wanted]
    in_order = shapes == expected and kinds and list(left) == sorted(left, key=natural_key)
    if in_order or (len(set(shapes)) == len(shapes) and sorted(shapes) == sorted(expected)):
        by_shape = dict(zip(shapes, left, strict=True))
        pairs = (
            zip(wanted, left, strict=True) if in_order else ((n, by_shape[tuple(t.shape)]) for n, t in wanted.items())
        )
        mapping = dict(pairs)
        stored = {new: origin.get(old, old) for new, old in mapping.items()}
        aside = tuple(origin.get(name, name) for name in tensors if name not in left)
        return Fit({new: left[old] for new, old in mapping.items()}, "", _differing(stored), aside)
    return None


def _bare(candidate: Candidate, source: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The tensors under names without wrappers, and the file's name of each."""
    bare = without_wrappers(candidate.tensors, source)
    return {bare[name]: tensor for name, tensor in candidate.tensors.items()}, {new: old for old, new in bare.items()}


def _mlp_names(tensors: Mapping[str, Any]) -> dict[str, str]:
    """`fc1.weight`, `fc1.bias`, `fc2.weight`, … with the name of each here (empty for a bias that is missing).

    The tensors must be the weights and biases of two or more linear layers, of which each takes what the one before
    gives, in one order only. Empty if they are not.
    """
    layers = {name[: -len("weight")].rstrip("."): t for name, t in tensors.items() if name.endswith("weight")}
    known = {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    if len(layers) < 2 or not set(tensors) <= known or any(tensor.ndim != 2 for tensor in layers.values()):
        return {}
    for layer, weight in layers.items():
        bias = tensors.get(f"{layer}.bias")
        if bias is not None and tuple(bias.shape) != (weight.shape[0],):
            return {}
    order = _chain(layers)
    return {
        f"fc{number}.{part}": f"{layer}.{part}" if f"{layer}.{part}" in tensors else ""
        for number, layer in enumerate(order, 1)
        for part in ("weight", "bias")
    }


def _chain(layers: Mapping[str, Any]) -> list[str]:
    """The layers in the one order in which they fit together; empty if there is none, or more than one."""
    if any(letter.isdigit() for name in layers for letter in name) or len(layers) > _MOST_UNNUMBERED:
        counted = sorted(layers, key=natural_key)
        return counted if _fits_together(counted, layers) else []
    orders = [list(order) for order in permutations(layers) if _fits_together(order, layers)]
    return orders[0] if len(orders) == 1 else []


def _fits_together(order: Any, layers: Mapping[str, Any]) -> bool:
    weights = [layers[name] for name in order]
    return all(after.shape[1] == before.shape[0] for before, after in pairwise(weights))


def _with_biases(tensors: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The weights with zeros for each bias that the file lacks: the layer computes the same."""
    for name in names:
        if name not in tensors:
            tensors[name] = tensors[name.replace(".bias", ".weight")][:, 0] * 0
    return {name: tensors[name] for name in names}


def _are_harmless(others: list[str], tensors: Mapping[str, Any], used: set[str]) -> bool:
    """Whether what is left belongs to no layer of the network: counters, losses, and whole copies of the network."""
    unknown = [name for name in others if not is_counter(name) and not is_of_loss(name)]
    if not unknown:
        return True
    shapes = sorted((name.rpartition(".")[2], tuple(tensors[name].shape)) for name in used if name in tensors)
    groups = {prefix: [n for n in unknown if n.startswith(prefix)] for prefix in prefixes(unknown) if prefix}
    for name in unknown:
        owner = next((g for p, g in groups.items() if name in g and _shapes_of(g, tensors) == shapes), None)
        if owner is None:
            return False
    return True


def _shapes_of(names: list[str], tensors: Mapping[str, Any]) -> list[tuple[str, tuple[int, ...]]]:
    return sorted((name.rpartition(".")[2], tuple(tensors[name].shape)) for name in names if not is_counter(name))


def _other_layers(candidate: Candidate) -> list[str]:
    """The layers of a pickled module that a SimpleNet does not have."""
    assert candidate.module is not None
    found = []
    for name, kind in candidate.module.layers:
        layer = kind.rpartition(".")[2]
        if is_of_loss(name) or layer.startswith(_HARMLESS) or layer in ("Linear", _RELU, ""):
            continue
        found.append(kind)
    return found


def _differing(stored: dict[str, str]) -> dict[str, str]:
    return {new: old for new, old in stored.items() if new != old}
