"""SimpleNet Serve: from a PyTorch checkpoint to a production prediction server.

Public names are loaded on first use, so a command that does not need torch does not import it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simplenet.archive import create_archive, read_archive
    from simplenet.checkpoint import (
        load_checkpoint_for_training,
        load_model_for_inference,
        load_pretrained_backbone,
        safe_load_model,
        save_checkpoint,
        save_for_inference,
        smart_load,
    )
    from simplenet.checkpoint.remote import load_from_s3, save_to_s3
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
    "load_checkpoint_for_training",
    "load_from_s3",
    "load_model_for_inference",
    "load_pretrained_backbone",
    "read_archive",
    "register_architecture",
    "safe_load_model",
    "save_checkpoint",
    "save_for_inference",
    "save_to_s3",
    "save_versioned_model",
    "smart_load",
]

__version__ = "0.1.0"

_HOME = {
    "ModelConfig": "model",
    "SimpleNet": "model",
    "SimpleNetError": "errors",
    "build_model": "model",
    "create_archive": "archive",
    "list_versions": "checkpoint.versions",
    "load_checkpoint_for_training": "checkpoint",
    "load_from_s3": "checkpoint.remote",
    "load_model_for_inference": "checkpoint",
    "load_pretrained_backbone": "checkpoint",
    "read_archive": "archive",
    "register_architecture": "model",
    "safe_load_model": "checkpoint",
    "save_checkpoint": "checkpoint",
    "save_for_inference": "checkpoint",
    "save_to_s3": "checkpoint.remote",
    "save_versioned_model": "checkpoint.versions",
    "smart_load": "checkpoint",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"simplenet.{_HOME[name]}"), name)
    raise AttributeError(f"module 'simplenet' has no attribute {name!r}")
