"""Transfer learning: start a network from the backbone of another."""

import logging

from torch import nn

from simplenet.checkpoint.lineage import remember_origin
from simplenet.checkpoint.state_dict import LoadReport, load_matching
from simplenet.checkpoint.weights import read_weights
from simplenet.errors import ConfigError, KeyMismatchError
from simplenet.model import bare_network
from simplenet.paths import PathLike

logger = logging.getLogger(__name__)


def load_pretrained_backbone(model: nn.Module, pretrained_path: PathLike, freeze: bool = True) -> nn.Module:
    """Start a network from another's backbone with `transfer_backbone`, and log its report.

    Returns:
        The same network.

    Raises:
        CheckpointError: the file cannot be read, or nothing in it matches the network.
        ConfigError: the network has no layers.

    Example:
        >>> from simplenet import SimpleNet, save_for_inference
        >>> save_for_inference(SimpleNet(4, 8, num_classes=10), "digits.pt")
        >>> parity = load_pretrained_backbone(SimpleNet(4, 8, num_classes=2), "digits.pt", freeze=True)
        >>> [name for name, parameter in parity.named_parameters() if parameter.requires_grad]
        ['fc2.weight', 'fc2.bias']
    """
    logger.info("%s: %s", pretrained_path, transfer_backbone(model, pretrained_path, freeze))
    return model


def transfer_backbone(model: nn.Module, pretrained_path: PathLike, freeze: bool = True) -> LoadReport:
    """Load every weight that matches in name and shape, except those of the classifier head, which stays new.

    Args:
        model: loaded in place; its head (`fc2` of a SimpleNet, else the last layer with weights) may have another size.
        pretrained_path: any file that `safe_load_model` reads.
        freeze: set `requires_grad` to False for the loaded weights, and for no others.

    Returns:
        What was loaded and what was not.

    Raises:
        CheckpointError: the file cannot be read, or nothing in it matches the network.
        ConfigError: the network has no layers.
    """
    weights = read_weights(pretrained_path)
    model = bare_network(model)
    head = f"{head_name(model)}."
    backbone = {name: tensor for name, tensor in weights.state_dict.items() if not name.startswith(head)}
    report = load_matching(model, backbone, weights.source)
    if not report.loaded:
        raise KeyMismatchError(f"{pretrained_path}: nothing matches {type(model).__name__}'s backbone: {report}")
    remember_origin(model, weights.metadata)
    if freeze:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and name not in report.loaded)
    return report


def head_name(model: nn.Module) -> str:
    """The name of the classifier head: the last child that has weights.

    Raises:
        ConfigError: there is none.

    Example:
        >>> head_name(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
        '2'
    """
    names = [name for name, child in model.named_children() if next(child.parameters(), None) is not None]
    if not names:
        raise ConfigError(f"{type(model).__name__}: expected layers, the last of them the classifier head, found none")
    return names[-1]
