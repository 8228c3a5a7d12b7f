"""Ask a server for predictions; needs neither torch nor TorchServe."""

from simplenet.client.predict import predict

__all__ = ["predict"]
