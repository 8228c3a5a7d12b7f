"""Networks saved to and loaded from object storage."""

from typing import Any

import torch
from torch import nn

from simplenet.checkpoint.load import load_model_for_inference
from simplenet.checkpoint.save import save_for_inference
from simplenet.errors import StorageError
from simplenet.storage import local_copy, local_output, parse_address


def save_to_s3(model: nn.Module, bucket_name: str, key: str, **inference: Any) -> None:
    """Save a network for serving, as `save_for_inference` does with these arguments, to `s3://bucket_name/key`.

    Raises:
        CheckpointError, ConfigError: the network cannot be saved.
        StorageError: it cannot be stored.

    Example:
        >>> from simplenet import SimpleNet
        >>> save_to_s3(SimpleNet(4, 8, 3), "models", "digits.pt")  # doctest: +SKIP
    """
    with local_output(_address(bucket_name, key)) as path:
        save_for_inference(model, path, **inference)


def load_from_s3(bucket_name: str, key: str, device: str | torch.device = "cpu") -> nn.Module:
    """Rebuild the network stored at `s3://bucket_name/key`, verified as by `load_model_for_inference`.

    Raises:
        StorageError: it cannot be fetched.
        CheckpointError, ConfigError: the object is not a checkpoint that can be rebuilt.

    Example:
        >>> model = load_from_s3("models", "digits.pt", device="cpu")  # doctest: +SKIP
    """
    with local_copy(_address(bucket_name, key)) as path:
        return load_model_for_inference(path, device)


def _address(bucket_name: str, key: str) -> str:
    address = f"s3://{bucket_name}/{key}"
    if parse_address(address) != (bucket_name, key):
        raise StorageError(f"bucket_name: expected the name alone, such as 'my-models', found {bucket_name!r}")
    return address
