"""Fit a candidate's tensors to a network: strip prefixes, map names, and say what was done.

Nothing is guessed where two answers are possible: then there is no fit, and the reason says why.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from simplenet.checkpoint.adoption.candidates import Candidate, is_copy
from simplenet.checkpoint.adoption.layers import are_numbered_alike, mlp_names
from simplenet.checkpoint.adoption.modules import loss_layers, structure_problem
from simplenet.checkpoint.adoption.names import below, is_counter, is_of_loss, natural_key, prefixes, without_wrappers
from simplenet.checkpoint.adoption.reparametrized import fold
from simplenet.checkpoint.state_dict import fitting_config
from simplenet.text import quoted

_MOST_PREFIXES = 64


@dataclass(frozen=True)
class Fit:
    """Tensors of a candidate under a network's names."""

    tensors: dict[str, Any]
    prefix: str  # stripped from the names, after what wrappers add
    stored_names: dict[str, str]  # network's name to the file's, where they differ
    left_aside: tuple[str, ...]  # names in the file of tensors that the network does not have
    notes: tuple[str, ...] = ()  # what was computed or assumed, one line each
    made: tuple[str, ...] = ()  # names of the biases that the file lacks
    config: dict[str, Any] | None = None  # of a SimpleNet, from the shapes


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
    if candidate.module and structure_problem(candidate.module):
        return []
    losses = loss_layers(candidate.module) if candidate.module else []
    of_loss = [n for n in candidate.tensors if n.rpartition(".")[0] in losses]
    layers = {name: tensor for name, tensor in candidate.tensors.items() if name not in of_loss}
    named, origin = _bare(replace(candidate, tensors=layers), source)
    folded = fold(named, candidate.lora_alpha)
    if folded.unfolded:
        return []
    fits: dict[frozenset[str], Fit] = {}  # by the tensors used: the longest prefix says most
    for prefix in prefixes(folded.state_dict)[:_MOST_PREFIXES]:
        inner = _weights_below(folded.state_dict, prefix)
        mapping = mlp_names(inner)
        if not mapping:
            continue
        lacking = tuple(new for new, old in mapping.items() if not old)
        tensors = _with_biases({new: inner[old] for new, old in mapping.items() if old}, list(mapping))
        config = fitting_config(tensors)
        used = {f"{prefix}{old}" for old in mapping.values() if old}
        others = [name for name in folded.state_dict if name not in used]
        if config is None or not _are_harmless(others, folded.state_dict, used):
            continue
        stored = {new: origin.get(f"{prefix}{old}", f"{prefix}{old}") for new, old in mapping.items() if old}
        aside = (*(origin.get(name, name) for name in others), *of_loss)
        notes = (*folded.notes, *_assumptions(candidate, mapping, lacking))
        fits[frozenset(used)] = Fit(tensors, prefix, _differing(stored), aside, notes, lacking, config)
    return _likeliest_first(fits.values())


def fits_of_network(candidate: Candidate, wanted: Mapping[str, Any], source: str) -> list[Fit]:
    """Every way to read the weights of a network from the candidate, the likeliest first.

    Args:
        candidate: from the file.
        wanted: the network's own state_dict; shapes count, values only for BatchNorm's counters that old files lack.
        source: the file, in messages.
    """
    named, origin = _bare(candidate, source)
    raw = {name: name for name in candidate.tensors}
    for tensors, origin_of in ((candidate.tensors, raw), (named, origin)):
        if fits := list(_prefixed_fits(tensors, origin_of, wanted, ())):
            return _likeliest_first(fits)
    folded = fold(named, candidate.lora_alpha)
    if fits := list(_prefixed_fits(folded.state_dict, origin, wanted, folded.notes)):
        return _likeliest_first(fits)
    fit = _fit_by_order(named, origin, wanted)
    return [fit] if fit else []


def _likeliest_first(fits: Iterable[Fit]) -> list[Fit]:
    return sorted(fits, key=lambda fit: (is_copy(fit.prefix), fit.prefix.count(".")))


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
    shapes = [tuple(tensor.shape) for tensor in left.values()]
    expected = [tuple(tensor.shape) for tensor in wanted.values()]
    if sorted(shapes) != sorted(expected):
        return None
    if len(set(shapes)) == len(shapes):
        by_shape = dict(zip(shapes, left, strict=True))
        mapping = {name: by_shape[tuple(tensor.shape)] for name, tensor in wanted.items()}
    elif shapes == expected and _are_in_the_same_order(left, wanted):
        mapping = dict(zip(wanted, left, strict=True))
    else:
        return None
    stored = {new: origin.get(old, old) for new, old in mapping.items()}
    aside = tuple(origin.get(name, name) for name in tensors if name not in left)
    return Fit({new: left[old] for new, old in mapping.items()}, "", _differing(stored), aside)


def _are_in_the_same_order(names: Iterable[str], wanted: Iterable[str]) -> bool:
    """Whether numbers in the names of the layers say that they follow each other as in the network."""
    split = [[name.rpartition(".") for name in some] for some in (names, wanted)]
    if [part for _, _, part in split[0]] != [part for _, _, part in split[1]]:
        return False
    layers = [list(dict.fromkeys(layer for layer, _, _ in some)) for some in split]
    return all(are_numbered_alike(some) and some == sorted(some, key=natural_key) for some in layers)


def _weights_below(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The tensors under a prefix that belong to layers: no counters, and no losses, which have vectors only."""
    inner = {name: tensor for name, tensor in below(tensors, prefix).items() if not is_counter(name)}
    layers = {name.rpartition(".")[0] for name, tensor in inner.items() if tensor.ndim >= 2}
    return {n: t for n, t in inner.items() if not is_of_loss(n) or n.rpartition(".")[0] in layers}


def _assumptions(candidate: Candidate, mapping: Mapping[str, str], lacking: tuple[str, ...]) -> list[str]:
    """What the names and shapes do not tell, one line each."""
    lines = [f"no {quoted(lacking)}: zeros stand for layers without a bias"] if lacking else []
    known = candidate.module is not None and any(kind.endswith(".ReLU") for _, kind in candidate.module.layers)
    if not known and any(new != old for new, old in mapping.items() if old):
        lines.append("ReLU is assumed between the layers; a network with another activation needs its --model-file")
    return lines


def _bare(candidate: Candidate, source: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The tensors under names without wrappers, and the file's name of each."""
    bare = without_wrappers(candidate.tensors, source)
    return {bare[name]: tensor for name, tensor in candidate.tensors.items()}, {new: old for old, new in bare.items()}


def _with_biases(tensors: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The weights with zeros for each bias that the file lacks: the layer computes the same."""
    for name in names:
        if name not in tensors:
            tensors[name] = tensors[name.replace(".bias", ".weight")][:, 0] * 0
    return {name: tensors[name] for name in names}


def _are_harmless(others: list[str], tensors: Mapping[str, Any], used: set[str]) -> bool:
    """Whether what is left belongs to no layer of the network: counters, losses, and whole copies of the network."""
    unknown = [name for name in others if not is_counter(name) and not (is_of_loss(name) and tensors[name].ndim < 2)]
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


def _differing(stored: dict[str, str]) -> dict[str, str]:
    return {new: old for new, old in stored.items() if new != old}
