"""Train a network on labelled rows; import each module directly, because the package imports none of them.

- `hyperparameters`: the defaults of a run, and the record of it that its checkpoints carry.
- `data`: read a folder of MNIST-format files as `LabelledData`.
- `trainer`: the training loop.
- `run`: a `Run` from data to checkpoint: `fresh`, `resume` or `transfer`.
- `checkpoints`: what a run saves while it trains, and how many of its checkpoints it keeps.
"""
