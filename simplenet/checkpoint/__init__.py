"""Checkpoints: saved with all that rebuilds them, loaded only if nothing drifted."""

from simplenet.checkpoint.inference import (
    inference_checkpoint,
    load_model_for_inference,
    restore,
    save_for_inference,
    verified_parts,
)
from simplenet.checkpoint.resume import load_checkpoint_for_training, save_checkpoint
from simplenet.checkpoint.weights import load_pretrained_backbone, safe_load_model, smart_load

__all__ = [
    "inference_checkpoint",
    "load_checkpoint_for_training",
    "load_model_for_inference",
    "load_pretrained_backbone",
    "restore",
    "safe_load_model",
    "save_checkpoint",
    "save_for_inference",
    "smart_load",
    "verified_parts",
]
