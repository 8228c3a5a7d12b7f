"""Request predictions from a server; needs neither torch nor TorchServe."""

from simplenet.client.predict import predict

__all__ = ["predict"]
