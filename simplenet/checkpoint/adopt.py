"""Adopt a file from elsewhere: find its weights, make what it lacks, and say each thing in one line."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import nn

from simplenet.checkpoint.adoption.configs import (
    network_config,
    registered_network,
    replaced_config,
    simplenet_config,
)
from simplenet.checkpoint.adoption.dtypes import require_finite
from simplenet.checkpoint.adoption.labels import find_labels, labels_in
from simplenet.checkpoint.keys import (
    CERTIFICATE,
    CLASSES,
    CONTENT_HASH,
    GOLDEN,
    INPUT_SHAPE,
    METADATA,
    MODEL_CONFIG,
    OUTPUT,
    PREPROCESSING,
)
from simplenet.checkpoint.rebuild import rebuild
from simplenet.checkpoint.save import inference_checkpoint
from simplenet.checkpoint.served import replay
from simplenet.checkpoint.weights import Weights, require_simplenet, weights_in
from simplenet.errors import ConfigError, NotACheckpointError, SimpleNetError
from simplenet.golden import GOLDEN_SAMPLES, random_rows
from simplenet.model import (
    ARCHITECTURE,
    SimpleNet,
    build_model,
)
from simplenet.preprocessing import InputSpec, output_of
from simplenet.text import quoted

REPAIRS = "repairs"  # the key of the metadata that lists what was done


@dataclass(frozen=True)
class Given:
    """What the user says of a file; it wins over what the file says."""

    key: str | None = None  # the dotted path of the weights, if several fit
    model_config: Mapping[str, Any] | None = None
    network: Callable[..., nn.Module] | None = None  # the class, if it is not registered
    input_shape: Sequence[int] | None = None  # of one row, before the network
    preprocessing: Mapping[str, Any] | None = None
    output: str | None = None
    strict: bool = False  # refuse a file that was not saved whole

    @property
    def input(self) -> dict[str, Any]:
        """The arguments of `inference_checkpoint` about input and output."""
        return {"input_shape": self.input_shape, "preprocessing": self.preprocessing, "output": self.output}

    def restates_weights(self, stored_config: Any) -> bool:
        """Whether it says which weights to take, or another model_config than the stored one."""
        return self.key is not None or bool(
            self.model_config is not None and replaced_config(stored_config, self.model_config)
        )

    @property
    def restates_input(self) -> bool:
        """Whether it says how rows become the network's input, or what its outputs are."""
        return any(value is not None for value in self.input.values())


NOTHING_GIVEN = Given()


@dataclass
class Adopted:
    """A network from a file, and the complete checkpoint of it, which is made when it is asked for."""

    model: nn.Module  # in eval mode
    make: Callable[[], tuple[dict[str, Any], tuple[str, ...]]] = field(repr=False)
    findings: tuple[str, ...] = ()  # what is unusual or lacking, one line each; empty for a file that was saved whole
    weights: Weights | None = field(repr=False, default=None)  # as found; None for a file that was saved whole

    @cached_property
    def _made(self) -> tuple[dict[str, Any], tuple[str, ...]]:
        return self.make()

    @property
    def checkpoint(self) -> dict[str, Any]:
        """With everything that a file has which was saved whole."""
        return self._made[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was unusual and what was made, one line each; empty for a file that was saved whole."""
        return self._made[1]


def adopt(contents: Any, source: str, given: Given = NOTHING_GIVEN) -> Adopted:
    """Find the weights in what a file holds and rebuild their network; make what the file lacks when it is asked for.

    Args:
        contents: what `read_contents` returned.
        source: the file, in messages.
        given: what the user says of the file.

    Raises:
        CheckpointError: it holds no weights, or those of another network, or `given.strict` and it is incomplete.
        ConfigError: a model_config that does not build the network.

    Example:
        >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
        <torch._C.Generator object at ...>
        >>> adopted = adopt({"net": SimpleNet(4, 8, 3).state_dict()}, "theirs.pt")
        >>> for note in adopted.notes:
        ...     print(note)
        weights: taken from 'net'
        no model_config in theirs.pt: {'input_size': 4, 'hidden_size': 8, 'num_classes': 3} from the shapes
        no content hash in theirs.pt: one was made now
        no golden samples in theirs.pt: 8 random rows and their logits were recorded now
    """
    network = given.network or registered_network(contents, given.model_config)
    if network is None or network is SimpleNet:
        weights = weights_in(contents, source, key=given.key)
        require_simplenet(weights)
        config, notes = simplenet_config(weights, given.model_config)
        network = None
    else:
        config, notes = network_config(contents, network, source, given.model_config, given.key)
        wanted = build_model(config, network).state_dict()
        weights = weights_in(contents, source, key=given.key, wanted=wanted, network=_name(network))
        config = {ARCHITECTURE: _name(network), **config}
    unusual = (*weights.unusual, *notes)
    findings = (*unusual, *(f"no {what} in {source}" for what in weights.lacks))
    if given.strict and findings:
        raise NotACheckpointError(f"{source}: --strict: {'; '.join(findings)}")
    model = rebuild(config, weights.state_dict, source, network).eval()
    model = model.to(next(iter(weights.state_dict.values())).device)
    return Adopted(model, partial(_complete, model, config, weights, unusual, given), findings, weights)


def _complete(
    model: nn.Module, config: Mapping[str, Any], weights: Weights, unusual: Iterable[str], given: Given
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The checkpoint of the rebuilt network, and how each thing that the file lacked was made."""
    source = weights.source
    require_finite(weights.state_dict, source)
    stored, input_notes = _stored_input(weights)
    golden_inputs, golden_note = _golden_inputs(model, config, weights, given, stored)
    kept, metadata_notes = _metadata(weights)
    stated = {**stored, **{name: value for name, value in given.input.items() if value is not None}}
    checkpoint = _checkpoint(model, kept, config, golden_inputs, stated, source)
    labels, label_notes = _labels(weights, checkpoint[GOLDEN]["logits"].shape[1])
    notes = (
        *unusual, *_lines_about_lacks(weights, config, given, golden_note), *metadata_notes, *input_notes,
        *_lines_about_input(checkpoint, stored, given, weights), *label_notes,
    )  # fmt: skip
    checkpoint[METADATA][REPAIRS] = [*checkpoint[METADATA].get(REPAIRS, []), *notes]
    return {**checkpoint, **({CLASSES: labels} if labels else {})}, notes


def _checkpoint(
    model: nn.Module,
    metadata: Mapping[str, Any],
    config: Mapping[str, Any],
    golden_inputs: torch.Tensor,
    stated: Mapping[str, Any],
    source: str,
) -> dict[str, Any]:
    try:
        return inference_checkpoint(model, metadata, model_config=config, golden_inputs=golden_inputs, **stated)
    except SimpleNetError as error:
        half = any(tensor.dtype == torch.float16 for tensor in model.parameters())
        # float16 ends at 65,504: what a network reckons leaves it though each weight is within
        remedy = "; convert the weights to float32: model.float()" if half and "NaN or infinite" in str(error) else ""
        raise type(error)(f"{source}: {error}{remedy}") from error


def _lines_about_lacks(weights: Weights, config: Mapping[str, Any], given: Given, golden_note: str) -> list[str]:
    origin = "from the shapes" if given.network is None else "of the class"
    made = {
        MODEL_CONFIG: "" if given.model_config is not None else f"{dict(config)} {origin}",
        "content hash": "one was made now",
        "golden samples": golden_note,
    }
    return [f"no {what} in {weights.source}: {how}" for what, how in made.items() if how and what in weights.lacks]


def _lines_about_input(
    checkpoint: Mapping[str, Any], stored: Mapping[str, Any], given: Given, weights: Weights
) -> list[str]:
    lines = []
    if given.output is None and OUTPUT not in stored:
        outputs = checkpoint[GOLDEN]["logits"]
        if OUTPUT in checkpoint:
            lines.append(f"output: {checkpoint[OUTPUT]}, as the golden outputs show")
        elif given.network is not None:
            bounded = ", though all are within 0..1" if bool(((outputs >= 0) & (outputs <= 1)).all()) else ""
            lines.append(f"output: logits are assumed{bounded}; name another with --output")
    if PREPROCESSING in stored and given.preprocessing is None and CONTENT_HASH not in weights.metadata:
        lines.append(f"preprocessing: {checkpoint[PREPROCESSING]} as stored, of rows of 0..1")
    return lines + [
        f"{name} {checkpoint.get(name, 'none')} instead of {stored[name]}"
        for name in (INPUT_SHAPE, PREPROCESSING, OUTPUT)
        if name in stored and checkpoint.get(name) != stored[name]
    ]


def _golden_inputs(
    model: nn.Module, config: Mapping[str, Any], weights: Weights, given: Given, stored: Mapping[str, Any]
) -> tuple[torch.Tensor, str]:
    """Rows to record: the stored ones, if the network still agrees with their logits, else random ones."""
    golden = weights.checkpoint.get(GOLDEN)
    if isinstance(golden, Mapping) and isinstance(golden.get("inputs"), torch.Tensor) and not given.restates_input:
        replay(model, {**stored, GOLDEN: golden, METADATA: weights.metadata}, weights.source)
        return golden["inputs"], ""
    if shape := given.input_shape or stored.get(INPUT_SHAPE):
        size = math.prod(shape)
    else:
        size = config.get("input_size") or _first_input(model, weights.source)
    note = f"{GOLDEN_SAMPLES} random rows and their logits were recorded now"
    return random_rows(size), note


def _first_input(model: nn.Module, source: str) -> int:
    """The numbers in a row, if the first layer with weights shows them.

    Raises:
        ConfigError: it does not.
    """
    for layer in model.modules():
        size = getattr(layer, "in_features", getattr(layer, "num_features", None))
        if isinstance(size, int):
            return size
        if next(layer.parameters(recurse=False), None) is not None:
            break
    raise ConfigError(
        f"{source}: the shape of the network's input is not known; name it, such as --input-shape 1,28,28"
    )


def _stored_input(weights: Weights) -> tuple[dict[str, Any], list[str]]:
    """Input shape, preprocessing and output as stored; other programs mean other things by these names."""
    entries = {
        key: weights.checkpoint[key] for key in (INPUT_SHAPE, PREPROCESSING, OUTPUT) if key in weights.checkpoint
    }
    try:
        InputSpec.from_checkpoint(entries, weights.source)
        output_of(entries, weights.source)
    except NotACheckpointError as error:
        if CONTENT_HASH in weights.metadata:
            raise
        return {}, [str(error).removeprefix(f"{weights.source}: ") + "; left aside"]
    return entries, []


def _metadata(weights: Weights) -> tuple[dict[str, Any], list[str]]:
    """The metadata to keep, and a line for what is left aside."""
    stored, kept = weights.checkpoint.get(METADATA), dict(weights.metadata)
    if stored is not None and not isinstance(stored, Mapping):
        return {}, [f"metadata: expected a dict, found {type(stored).__name__}; left aside"]
    lost = [str(name)[:80] for name in stored or () if str(name) not in kept]
    kept.pop(CERTIFICATE, None)  # of these weights, but of another file
    if not isinstance(kept.get(REPAIRS, []), list):
        del kept[REPAIRS]
    return kept, [f"metadata: {quoted(lost)} left aside"] if lost else []


def _labels(weights: Weights, num_classes: int) -> tuple[list[str] | None, list[str]]:
    """The class labels, and where they come from or why there are none."""
    stored = weights.checkpoint.get(CLASSES)
    is_plain = isinstance(stored, list) and all(type(label) is str for label in stored)
    ours = CONTENT_HASH in weights.metadata and is_plain
    places = [(CLASSES, stored)] if ours else find_labels(weights.checkpoint)
    names = {*weights.state_dict, *weights.stored_names.values()}
    names |= {name.rpartition(".")[0] for name in names}
    labels, taken, notes = labels_in(places, num_classes, names, ours=ours)
    return labels, notes + ([] if labels is None or (taken == CLASSES and is_plain) else [f"classes: from {taken!r}"])


def _name(network: Callable[..., nn.Module]) -> str:
    return getattr(network, "__name__", type(network).__name__)
