"""Train a SimpleNet: data, loop, run."""
