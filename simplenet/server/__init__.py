"""What runs beside TorchServe: start it, wait until it is ready, stop it."""
