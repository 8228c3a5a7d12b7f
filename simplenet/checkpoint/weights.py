"""Read the weights of any file that holds some; say where they were, what was done to them and what the file lacks."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from simplenet.checkpoint.adoption.candidates import Candidate, candidates_in, is_copy, is_tensor
from simplenet.checkpoint.adoption.dtypes import usable
from simplenet.checkpoint.adoption.explain import no_fit, no_weights, odd_tensors
from simplenet.checkpoint.adoption.fit import Fit, fits_of_network, fits_of_simplenet
from simplenet.checkpoint.adoption.names import without_wrappers
from simplenet.checkpoint.adoption.reparametrized import fold
from simplenet.checkpoint.entries import plain_part, stored_hash
from simplenet.checkpoint.file import read_contents
from simplenet.checkpoint.keys import (
    CLASSES,
    CONTENT_HASH,
    GOLDEN,
    INPUT_SHAPE,
    METADATA,
    MODEL_CONFIG,
    MODEL_STATE_DICT,
    OUTPUT,
    PREPROCESSING,
)
from simplenet.checkpoint.reading.stand_in import Global
from simplenet.checkpoint.state_dict import fitting_config
from simplenet.content_hash import verify_hash
from simplenet.errors import KeyMismatchError, NotACheckpointError
from simplenet.paths import PathLike
from simplenet.text import quoted

_KNOWN = (METADATA, MODEL_CONFIG, CLASSES, GOLDEN, INPUT_SHAPE, PREPROCESSING, OUTPUT)


@dataclass(frozen=True)
class Weights:
    """The weights in a file, under the bare network's names."""

    source: str
    state_dict: dict[str, torch.Tensor]
    checkpoint: dict[str, Any]  # the entries of the file by name; empty if it does not hold a dict
    metadata: dict[str, Any] = field(default_factory=dict)  # the plain part of what is stored
    shaped_config: dict[str, Any] | None = None  # the SimpleNet's that the shapes show
    place: str = ""  # the dotted path of the weights in the file; empty for the file itself
    other_places: tuple[str, ...] = ()  # of other weights that fit
    prefix: str = ""  # stripped from the names, after what wrappers add
    stored_names: Mapping[str, str] = field(default_factory=dict)  # name to the file's name, where they differ
    left_aside: tuple[str, ...] = ()  # what the network does not need, by the file's names
    notes: tuple[str, ...] = ()  # what was computed or assumed, one line each
    made: tuple[str, ...] = ()  # names of weights that the file lacks and that are zero
    lacks: tuple[str, ...] = ()  # what a file has that was saved whole, and this one not
    unfitted: Candidate | None = field(default=None, repr=False)  # what was found, if it is not a SimpleNet's

    @property
    def classes(self) -> Any:
        """The stored class labels if they are plain, else None."""
        return plain_part({CLASSES: self.checkpoint.get(CLASSES)}, CLASSES)[0].get(CLASSES)

    @property
    def stored_config(self) -> dict[str, Any] | None:
        """The stored model_config, whether or not it fits."""
        config = self.checkpoint.get(MODEL_CONFIG)
        return config if isinstance(config, dict) else None

    @property
    def model_config(self) -> dict[str, Any] | None:
        """The stored model_config, else the one that the shapes show."""
        return self.stored_config if self.stored_config is not None else self.shaped_config

    @property
    def findings(self) -> tuple[str, ...]:
        """Everything unusual, one line each; empty for a file that was saved whole."""
        return (*self.unusual, *(f"no {what}" for what in self.lacks))

    @property
    def unusual(self) -> tuple[str, ...]:
        """Where the weights were and what was done to them, one line each."""
        lines = []
        if self.place not in ("", MODEL_STATE_DICT) or (self.place == "" and self.other_places):
            lines.append(f"weights: taken from {self.place or 'the file itself'!r}")
        if self.other_places:
            lines.append(f"weights: {quoted(self.other_places)} would fit too; take them with --key")
        if self.stored_names:
            new, old = next(iter(self.stored_names.items()))
            lines.append(f"names: {old!r} stands for {new!r}" + (", and so on" if len(self.stored_names) > 1 else ""))
        if self.left_aside:
            lines.append(f"left aside: {quoted(self.left_aside)}")
        return (*lines, *self.notes)


def read_weights(
    path: PathLike, device: str | torch.device = "cpu", *, mapped: bool = False, key: str | None = None
) -> Weights:
    """Read the weights of any file; `mapped` as for `read_checkpoint`, `key` as for `weights_in`.

    Raises:
        CheckpointError: the file cannot be read, holds no weights, or its weights do not match its hash.

    Example:
        >>> torch.save({"epoch": 3, "net": {"0.weight": torch.zeros(8, 4), "0.bias": torch.zeros(8),
        ...                                 "2.weight": torch.zeros(3, 8), "2.bias": torch.zeros(3)}}, "theirs.pt")
        >>> weights = read_weights("theirs.pt")
        >>> weights.place, weights.model_config, weights.stored_names["fc1.weight"]
        ('net', {'input_size': 4, 'hidden_size': 8, 'num_classes': 3}, '0.weight')
    """
    return weights_in(read_contents(path, device, mapped=mapped), str(path), key=key)


def weights_in(
    contents: Any,
    source: str,
    *,
    key: str | None = None,
    wanted: Mapping[str, torch.Tensor] | None = None,
    network: str = "",
    verified: bool = False,
) -> Weights:
    """`read_weights` for a file that is already read.

    Args:
        contents: what the file holds.
        source: the file, in messages.
        key: the dotted path of the weights, if several fit; a prefix of their names may be the last part of it.
        wanted: the state_dict of the network that the weights are for; without one, a SimpleNet is looked for, and
            weights of another network are returned under their own names.
        network: its name in messages.
        verified: the weights were compared with the stored hash already.
    """
    entries = (
        {name: item for name, item in contents.items() if isinstance(name, str)} if isinstance(contents, dict) else {}
    )
    found = Weights(source, {}, entries, plain_part(entries.get(METADATA), METADATA)[0], lacks=_lacks(entries))
    ours = _own_candidate(entries)
    if ours:
        _require_kinds(entries, source)
        if not verified:
            verify_hash(ours.tensors, entries[METADATA][CONTENT_HASH], source)
        if wanted is None:
            return _own(found, ours)
    candidates = [ours] if ours else candidates_in(contents)
    fits = _fits(candidates, source, wanted, key)
    if not fits and (kind := odd_tensors(contents)):
        raise NotACheckpointError(f"{source}: expected weights that are numbers of their own, found {kind}")
    if not candidates:
        raise no_weights(contents, source)
    if not fits:
        return _unfitted(found, candidates, wanted, network, key)
    if key is None and wanted is None and not ours:
        _require_one_network(candidates, fits, source)
    (candidate, fit), others = fits[0], [_place(*other) for other in fits[1:]]
    state_dict, notes = usable(fit.tensors, source)
    if candidate.module:
        notes = [f"a pickled network ({candidate.module.name}): its weights were taken, nothing of it was run", *notes]
    aside = (*fit.left_aside, *(_place_in(candidate, name) for name in candidate.beside), *_others(entries, candidate))
    return replace(
        found, state_dict=state_dict, shaped_config=fit.config, place=candidate.place, prefix=fit.prefix,
        other_places=tuple(dict.fromkeys(place for place in others if place != _place(candidate, fit))),
        stored_names=fit.stored_names, left_aside=aside, notes=(*fit.notes, *notes),
        made=fit.made,
    )  # fmt: skip


def is_whole(contents: Any) -> bool:
    """Whether a file was saved whole: it has all entries of a checkpoint, and a content hash to verify."""
    return isinstance(contents, dict) and not _lacks(contents) and _own_candidate(contents) is not None


def _own_candidate(entries: Mapping[str, Any]) -> Candidate | None:
    """The weights of a file that has a content hash: there is nothing to look for."""
    tensors = entries.get(MODEL_STATE_DICT)
    if stored_hash(entries.get(METADATA)) is None:
        return None
    if not isinstance(tensors, Mapping) or not tensors or not all(map(is_tensor, tensors.values())):
        return None
    return Candidate(MODEL_STATE_DICT, dict(tensors))


def _require_kinds(entries: Mapping[str, Any], source: str) -> None:
    """Refuse a file of ours in which something took the place of an entry: it is damaged, not from elsewhere.

    Raises:
        NotACheckpointError: names the entry.
    """
    for key in (MODEL_CONFIG, GOLDEN):
        if key in entries and not isinstance(entries[key], Mapping):
            raise NotACheckpointError(f"{source}: {key}: expected a dict, found {type(entries[key]).__name__}")


def _others(entries: Mapping[str, Any], candidate: Candidate) -> list[str]:
    """The entries beside the weights that mean nothing to this library, with the class of each object."""
    if not candidate.place:
        return []
    first = candidate.place.split(".")[0]
    return [
        f"{name} ({item.qualified_name})" if isinstance(item, Global) else name
        for name, item in entries.items()
        if name != first and (name not in _KNOWN or isinstance(item, Global))
    ]


def _place_in(candidate: Candidate, name: str) -> str:
    return f"{candidate.place}.{name}" if candidate.place else name


def _are_tensors(tensors: Mapping[str, Any]) -> bool:
    return all(isinstance(tensor, torch.Tensor) and not tensor.is_meta for tensor in tensors.values())


def _own(found: Weights, candidate: Candidate) -> Weights:
    """The weights of a file that has a content hash, as they are but for the names that wrappers change."""
    bare = without_wrappers(candidate.tensors, found.source)
    tensors = {new: candidate.tensors[old] for old, new in bare.items()}
    shaped = fitting_config(tensors)
    stored_names = {new: old for old, new in bare.items() if new != old}
    return replace(
        found, state_dict=tensors, place=candidate.place, stored_names=stored_names, shaped_config=shaped,
        unfitted=None if shaped else candidate,
    )  # fmt: skip


def _lacks(entries: Mapping[str, Any]) -> tuple[str, ...]:
    """The entries of a whole checkpoint that are not there, as nouns."""
    present = {
        MODEL_CONFIG: isinstance(entries.get(MODEL_CONFIG), Mapping),
        "content hash": stored_hash(entries.get(METADATA)) is not None,
        "golden samples": isinstance(entries.get(GOLDEN), Mapping),
    }
    return tuple(what for what, there in present.items() if not there)


def _fits(
    candidates: list[Candidate], source: str, wanted: Mapping[str, torch.Tensor] | None, key: str | None
) -> list[tuple[Candidate, Fit]]:
    fits = []
    for candidate in candidates:
        found = fits_of_simplenet(candidate, source) if wanted is None else fits_of_network(candidate, wanted, source)
        fits += [(candidate, fit) for fit in found]
    if key is None:
        return fits
    chosen = [pair for pair in fits if _place(*pair) == key or pair[0].place == key]
    if not chosen and fits:
        places = quoted(dict.fromkeys(_place(*pair) for pair in fits))
        raise NotACheckpointError(f"{source}: --key: expected one of {places}, found {key!r}")
    return chosen


def _require_one_network(candidates: list[Candidate], fits: list[tuple[Candidate, Fit]], source: str) -> None:
    """Refuse a file in which the weights that fit stand beside others that do not: they may be one part of a network.

    Raises:
        KeyMismatchError: names the parts.
    """
    fitting = {candidate.place for candidate, _ in fits}
    chosen = fits[0][0].place
    parts = [
        candidate.place
        for candidate in candidates
        if candidate.place not in fitting and not is_copy(candidate.place) and _is_beside(candidate.place, chosen)
        and any(name.endswith("weight") and tensor.ndim >= 2 for name, tensor in candidate.tensors.items())
    ]  # fmt: skip
    if parts:
        raise KeyMismatchError(
            f"{source}: the weights at {chosen!r} are those of a SimpleNet, but those at {quoted(parts)} are not, and "
            f"they may be parts of one network; take the first alone with --key {shlex.quote(chosen)}, or bring the "
            "network with --model-file"
        )


def _is_beside(place: str, other: str) -> bool:
    """Whether neither of two places is inside the other."""
    inside = f"{place}.".startswith(f"{other}.") or f"{other}.".startswith(f"{place}.")
    return bool(place and other) and not inside


def _place(candidate: Candidate, fit: Fit) -> str:
    """What `key` must be to take these weights."""
    return ".".join(part for part in (candidate.place, fit.prefix.rstrip(".")) if part)


def _unfitted(
    found: Weights,
    candidates: list[Candidate],
    wanted: Mapping[str, torch.Tensor] | None,
    network: str,
    key: str | None,
) -> Weights:
    """The likeliest weights under their own names; an error if they had to fit a network."""
    candidate = next((one for one in candidates if one.place == key), candidates[0])
    tensors, _ = usable(candidate.tensors, found.source) if wanted is not None else (candidate.tensors, [])
    if unfolded := fold(tensors, candidate.lora_alpha).unfolded if _are_tensors(tensors) else ():
        raise KeyMismatchError(f"{found.source}: {'; '.join(unfolded[:3])}")
    if wanted is not None:
        raise no_fit(candidate, found.source, network, wanted)
    bare = without_wrappers(candidate.tensors, found.source)
    tensors = {new: torch.as_tensor(candidate.tensors[old]) for old, new in bare.items()}
    stored = {new: old for old, new in bare.items() if new != old}
    return replace(found, state_dict=tensors, place=candidate.place, stored_names=stored, unfitted=candidate)


def require_simplenet(weights: Weights) -> None:
    """Refuse weights of another network.

    Raises:
        CheckpointError: says how to bring the network.
    """
    if weights.unfitted is not None:
        raise no_fit(weights.unfitted, weights.source)
