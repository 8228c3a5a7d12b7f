"""Each row of "What can be read" in docs/checkpoints.md stands for kinds of files that tests make and hand over."""

import re
from pathlib import Path

import pytest
import torch
from foreign_files import REFUSED, SERVED

from simplenet.checkpoint.load import load_any
from simplenet.errors import CheckpointError
from simplenet.model import SimpleNet

PAGE = (Path(__file__).parents[3] / "docs" / "checkpoints.md").read_text()
TABLE = PAGE.split("### What can be read")[1].split("\n\n")[1]
ROWS = re.findall(r"^\| (.+?) \| (adopted|refused)", TABLE, re.MULTILINE)
# A row by its first words, and the kinds that it stands for.
KINDS = {
    "a state_dict, from any version": r"state_dict|legacy|protocol|pickle.dump \d|Parameters|not contig|views",
    "a state_dict under any key": r"key|nested|deep|a list|a tuple|flat|a dict a layer|with an average|mmengine",
    "names with prefixes": r"prefix |checkpoint wrapper|Lightning$|Lightning, ",
    "counters of SWA": r"SWA|thop|with a loss|EMA beside",
    "two or more linear layers": r"Sequential$|linear1|layers\.0|tutorial|hidden, output|sorted against",
    "weight_norm": r"weight_norm|pruned",
    "a training checkpoint": r"training checkpoint|optimizer object",
    "NumPy scalars": r"beside (?!an opt)",
    "a whole pickled network": r"whole",
    "arrays": r"npz|of arrays|NumPy arrays",
    "`.safetensors`": r"safetensors",
    "one of these in": r"gzip|bz2|xz|in a ",
    "float16": r"^b?float\d+$",
    "mixed dtypes": r"mixed|sparse",
    "a `model_config`": r"config|metadata|golden|classes",
    "int8": r"int8|complex|float8|meta$",
    "TorchScript": r"TorchScript",
    "a Git LFS pointer": r"HTML|XML|JSON|index of|plain text|Git LFS|zeros",
    "tensors without names": r"as names|one tensor|empty dict",
}


def kinds_of(row: str, made: dict) -> list[str]:
    (pattern,) = (pattern for words, pattern in KINDS.items() if row.startswith(words))
    return [kind for kind in made if re.search(pattern, kind)]


@pytest.mark.parametrize(("row", "outcome"), ROWS)
def test_a_row_of_the_table_says_what_happens(tmp_path, row, outcome):
    torch.manual_seed(0)
    model = SimpleNet(12, 8, 3)
    kinds = kinds_of(row, SERVED if outcome == "adopted" else REFUSED)
    assert kinds
    for number, kind in enumerate(kinds):
        path = tmp_path / str(number)
        (SERVED[kind] if outcome == "adopted" else REFUSED[kind][0])(model, path)
        if outcome == "adopted":
            assert load_any(path).model.config == model.config
        else:
            with pytest.raises(CheckpointError):
                load_any(path)


def test_every_kind_is_in_the_table():
    rows = [(row, SERVED if outcome == "adopted" else REFUSED) for row, outcome in ROWS]
    listed = {kind for row, made in rows for kind in kinds_of(row, made)}
    assert {*SERVED, *REFUSED} - listed == set()
