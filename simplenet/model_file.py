"""The user's own network: a class in a Python module that they name."""

import importlib.util
import sys
from pathlib import Path

from torch import nn

from simplenet.errors import ArchiveError


def load_network(file: Path, class_name: str) -> type[nn.Module]:
    """Import the user's own module and take the network from it. This runs the module.

    Raises:
        ArchiveError: the module cannot be imported, or has no such nn.Module.

    Example:
        >>> module = Path("my_net.py")
        >>> _ = module.write_text("from simplenet import SimpleNet as MyNet")
        >>> load_network(module, "MyNet").__name__
        'SimpleNet'
    """
    spec = importlib.util.spec_from_file_location(f"_model_file_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ArchiveError(f"{file}: expected a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except (SystemExit, Exception) as error:  # a script may end itself
        raise ArchiveError(f"{file}: cannot be imported: {type(error).__name__}: {error}") from error
    network = getattr(module, class_name, None)
    if not (isinstance(network, type) and issubclass(network, nn.Module)):
        networks = [
            name for name, value in vars(module).items() if isinstance(value, type) and issubclass(value, nn.Module)
        ]
        raise ArchiveError(f"{file}: expected a class {class_name!r} that is an nn.Module, found {networks or 'none'}")
    return network
