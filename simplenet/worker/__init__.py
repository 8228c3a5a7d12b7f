"""What runs inside TorchServe: requests to rows, rows to predictions, predictions to responses."""
