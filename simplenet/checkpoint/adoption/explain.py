"""Why a file could not be adopted, in one line with a remedy."""

import itertools
import shlex
from typing import Any

from simplenet.checkpoint.adoption.candidates import Candidate, containers_in, unnamed_tensors
from simplenet.checkpoint.adoption.modules import structure_problem
from simplenet.checkpoint.reading.stand_in import StandIn
from simplenet.errors import KeyMismatchError, NotACheckpointError
from simplenet.text import quoted

_MOST_SHAPES = 6
_MOST_LOOKED_AT = 10_000
_ODD_TENSORS = {  # by the function of torch that rebuilds them
    "_rebuild_qtensor": "quantized tensors; hand over the float checkpoint that they were quantized from",
    "_rebuild_meta_tensor_no_storage": "meta tensors, without values; save the network once its weights are loaded",
    "_rebuild_nested_tensor": "nested tensors; save model.state_dict() of a network with dense weights",
    "_rebuild_wrapper_subclass": "tensors of a class that wraps others; save model.state_dict() of plain tensors",
}


def no_weights(contents: Any, source: str) -> NotACheckpointError:
    """The error for a file without a dict of named tensors."""
    if keys := unnamed_tensors(contents):
        return NotACheckpointError(f"{source}: expected weights by name, found {_unnamed(keys, source)}")
    return NotACheckpointError(
        f"{source}: expected the weights of a network, a dict of tensors by name, found {_found(contents)}; save "
        'model.state_dict(), for instance with torch.save(model.state_dict(), "weights.pt")'
    )


def no_fit(candidate: Candidate, source: str, network: str = "") -> KeyMismatchError:
    """The error for weights that belong to another network than a SimpleNet, or than the user's class `network`."""
    shapes = [f"{name} {tuple(tensor.shape)}" for name, tensor in list(candidate.tensors.items())[:_MOST_SHAPES]]
    more = len(candidate.tensors) - len(shapes)
    found = ", ".join(shapes) + (f" and {more} more" if more > 0 else "")
    where = f"at {candidate.place!r}" if candidate.place else "in it"
    kinds = _kinds(candidate)
    if network:
        return KeyMismatchError(f"{source}: the weights {where} do not fit {network}: found {found}{kinds}")
    image = next((t.shape for t in candidate.tensors.values() if t.ndim == 4), None)
    shape = f" --input-shape {image[1]},HEIGHT,WIDTH" if image is not None else ""
    file = shlex.quote(source)
    return KeyMismatchError(
        f"{source}: the weights {where} are not those of a SimpleNet: found {found}{kinds}; bring the network that "
        f"they belong to: simplenet archive {file} --model-file net.py --model-class Net{shape}"
    )


def _kinds(candidate: Candidate) -> str:
    if candidate.module is None:
        return ""
    kinds = dict.fromkeys(kind.rpartition(".")[2] for _, kind in candidate.module.layers)
    problem = structure_problem(candidate.module)
    return f" (layers: {', '.join(kinds)}{f'; {problem}' if problem else ''})"


def _unnamed(keys: list[Any], source: str) -> str:
    """The keys that are no names, and how to give the weights theirs."""
    kind = type(keys[0]).__name__
    if all(isinstance(key, bytes) for key in keys):
        rename = "{k.decode(): v for k, v in w.items()}"
    else:
        rename = "dict(zip(['fc1.weight', 'fc1.bias', 'fc2.weight', 'fc2.bias'], w.values()))"
    code = f"import torch; w = torch.load({source!r}, weights_only=True); torch.save({rename}, 'named.pt')"
    return f"keys of type {kind} ({quoted(keys)}); name them: python -c {shlex.quote(code)}"


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
