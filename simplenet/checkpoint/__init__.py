"""Checkpoints: saved with everything that rebuilds the network, loaded only if verified."""

from simplenet.checkpoint.load import load_model_for_inference, restore, safe_load_model, smart_load
from simplenet.checkpoint.resume import load_checkpoint_for_training, save_checkpoint
from simplenet.checkpoint.save import inference_checkpoint, save_for_inference
from simplenet.checkpoint.transfer import load_pretrained_backbone

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
]
