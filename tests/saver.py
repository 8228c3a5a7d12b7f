"""A process to be killed while it saves: for each line read it forks a child that saves until it is ended.

It says the child's process id, and `ended` when that is gone. The fork spares each child the import of torch. The
child marks on stderr, with `(` and `)`, when a save begins and ends.
"""

import itertools
import os
import sys
from pathlib import Path

import torch

from simplenet.checkpoint import save_for_inference
from simplenet.model import SimpleNet

NAMES = ("one.pt", "two.pt", "three.safetensors")


def networks() -> list[SimpleNet]:
    """The two networks that are saved in turn, 3 MB each."""
    torch.manual_seed(0)
    return [SimpleNet(784, 1000, 10) for _ in range(2)]


def save_forever(saved: list[SimpleNet], folder: Path) -> None:
    for name, network in zip(itertools.cycle(NAMES), itertools.cycle(saved), strict=False):
        os.write(2, b"(")
        save_for_inference(network, folder / name)
        os.write(2, b")")


def main() -> None:
    torch.set_num_threads(1)  # a child has none of its parent's threads
    saved = networks()
    for _ in sys.stdin:
        child = os.fork()
        if not child:
            save_forever(saved, Path(sys.argv[1]))
        print(child, flush=True)
        os.waitpid(child, 0)
        print("ended", flush=True)


if __name__ == "__main__":
    main()
