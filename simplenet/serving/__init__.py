"""What runs in TorchServe (codec, predictor) or beside it (server, store, client)."""

DEFAULT_PORT = 8080
