"""SimpleNet Serve: from a PyTorch checkpoint to a production prediction server.

The public names are loaded on first use, so that a verb which needs no torch does not pay for importing it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simplenet.archive import create_archive, read_archive
    from simplenet.checkpoint import load_model_for_inference, save_for_inference
    from simplenet.checkpoint.versions import list_versions, save_versioned_model
    from simplenet.errors import SimpleNetError
    from simplenet.model import ModelConfig, SimpleNet, build_model, register_architecture

__all__ = [
    "ModelConfig",
    "SimpleNet",
    "SimpleNetError",
    "build_model",
    "create_archive",
    "list_versions",
    "load_model_for_inference",
    "read_archive",
    "register_architecture",
    "save_for_inference",
    "save_versioned_model",
]

__version__ = "0.1.0"

_HOME = {
    "ModelConfig": "model",
    "SimpleNet": "model",
    "SimpleNetError": "errors",
    "build_model": "model",
    "create_archive": "archive",
    "list_versions": "checkpoint.versions",
    "load_model_for_inference": "checkpoint",
    "read_archive": "archive",
    "register_architecture": "model",
    "save_for_inference": "checkpoint",
    "save_versioned_model": "checkpoint.versions",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"simplenet.{_HOME[name]}"), name)
    raise AttributeError(f"module 'simplenet' has no attribute {name!r}")
