"""Why a file could not be adopted, in one line with a remedy."""

import itertools
import shlex
from collections.abc import Mapping
from typing import Any

import torch

from simplenet.checkpoint.adoption.candidates import Candidate, containers_in
from simplenet.checkpoint.adoption.modules import structure_problem
from simplenet.checkpoint.adoption.names import without_wrappers
from simplenet.checkpoint.adoption.unnamed import unnamed
from simplenet.checkpoint.reading.stand_in import StandIn
from simplenet.errors import KeyMismatchError, NotACheckpointError
from simplenet.text import quoted

_MOST_SHAPES = 6
_MOST_LOOKED_AT = 10_000
_REBUILD = (
    "build it with the arguments that it was trained with (--model-config), or bring the class that the weights belong "
    "to (--model-file, --model-class)"
)
_ODD_TENSORS = {  # by the function of torch that rebuilds them
    "_rebuild_qtensor": "quantized tensors; hand over the float checkpoint that they were quantized from",
    "_rebuild_meta_tensor_no_storage": "meta tensors, without values; save the network once its weights are loaded",
    "_rebuild_nested_tensor": "nested tensors; save model.state_dict() of a network with dense weights",
    "_rebuild_wrapper_subclass": "tensors of a class that wraps others; save model.state_dict() of plain tensors",
}


def no_weights(contents: Any, source: str) -> NotACheckpointError:
    """The error for a file without a dict of named tensors."""
    if found := unnamed(contents, source):
        return NotACheckpointError(f"{source}: expected weights by name, found {found}")
    return NotACheckpointError(
        f"{source}: expected the weights of a network, a dict of tensors by name, found {_found(contents)}; save "
        'model.state_dict(), for instance with torch.save(model.state_dict(), "weights.pt")'
    )


def no_fit(
    candidate: Candidate, source: str, network: str = "", wanted: Mapping[str, torch.Tensor] | None = None
) -> KeyMismatchError:
    """The error for weights that belong to another network than a SimpleNet, or than the user's class `network`.

    Args:
        candidate: what was found.
        source: the file, in messages.
        network: the name of the user's class; empty for a SimpleNet.
        wanted: the state_dict of that class, for what differs.
    """
    where = f"at {candidate.place!r}" if candidate.place else "in it"
    kinds = _kinds(candidate)
    if network:
        difference = (_difference(candidate, source, wanted) if wanted else "") or f"found {_shapes(candidate)}"
        return KeyMismatchError(f"{source}: the weights {where} do not fit {network}: {difference}{kinds}; {_REBUILD}")
    image = next((t.shape for t in candidate.tensors.values() if t.ndim == 4), None)
    shape = f" --input-shape {image[1]},HEIGHT,WIDTH" if image is not None else ""
    file = shlex.quote(source)
    return KeyMismatchError(
        f"{source}: the weights {where} are not those of a SimpleNet: found {_shapes(candidate)}{kinds}; bring the "
        f"network that they belong to: simplenet archive {file} --model-file net.py --model-class Net{shape}"
    )


def _shapes(candidate: Candidate) -> str:
    shapes = [f"{name} {tuple(tensor.shape)}" for name, tensor in list(candidate.tensors.items())[:_MOST_SHAPES]]
    more = len(candidate.tensors) - len(shapes)
    return ", ".join(shapes) + (f" and {more} more" if more > 0 else "")


def _difference(candidate: Candidate, source: str, wanted: Mapping[str, torch.Tensor]) -> str:
    """What the network has and the file not, and the other way round; empty if names and shapes agree."""
    stored = _under_bare_names(candidate, source, wanted)
    missing = [name for name in wanted if name not in stored]
    unexpected = [name for name in stored if name not in wanted]
    shapes = {name: (tuple(wanted[name].shape), tuple(stored[name].shape)) for name in wanted if name in stored}
    others = [f"{name} {found} instead of {shape}" for name, (shape, found) in shapes.items() if found != shape]
    if not (missing or unexpected or others):
        return ""
    return f"missing {quoted(missing)}; unexpected {quoted(unexpected)}; of another shape {quoted(others)}"


def _under_bare_names(candidate: Candidate, source: str, wanted: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The tensors without what wrappers add to their names, and without one prefix if more of them are wanted then."""
    bare = {new: candidate.tensors[old] for old, new in without_wrappers(candidate.tensors, source).items()}
    prefixes = {name.partition(".")[0] for name in bare}
    if len(prefixes) == 1 and all("." in name for name in bare):
        shorter = {name.partition(".")[2]: tensor for name, tensor in bare.items()}
        if len(shorter.keys() & wanted.keys()) > len(bare.keys() & wanted.keys()):
            return shorter
    return bare


def _kinds(candidate: Candidate) -> str:
    if candidate.module is None:
        return ""
    kinds = dict.fromkeys(kind.rpartition(".")[2] for _, kind in candidate.module.layers)
    problem = structure_problem(candidate.module)
    return f" (layers: {', '.join(kinds)}{f'; {problem}' if problem else ''})"


def odd_tensors(contents: Any) -> str:
    """What kind of tensors the reader left as stand-ins, and what to do; empty if there are none."""
    for _, value, _ in containers_in(contents):
        for item in itertools.islice(value.values() if isinstance(value, dict) else value, _MOST_LOOKED_AT):
            if isinstance(item, StandIn) and item.name in _ODD_TENSORS:
                return _ODD_TENSORS[item.name]
    return ""


def _found(contents: Any) -> str:
    if isinstance(contents, dict):
        return (
            f"a dict with {quoted(sorted(str(key)[:80] for key in list(contents)[:100]))}"
            if contents
            else "an empty dict"
        )
    if isinstance(contents, StandIn):
        return f"an object of the class {contents.qualified_name}"
    if hasattr(contents, "shape"):
        return f"a single tensor of shape {tuple(contents.shape)}"
    return f"a {type(contents).__name__}" + (f" of {len(contents)}" if isinstance(contents, (list, tuple)) else "")
