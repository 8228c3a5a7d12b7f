"""A short run of scripts/fuzz, and proof that it notices a reader that fails."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from mutations import READER, mutated, run, seeds

import simplenet.errors


def last(count: int, reader: str) -> Any:
    return list(run(count, reader))[-1]


def test_damaged_files_go_through_every_door_or_are_refused_in_one_line() -> None:
    _, result = last(300, READER)
    assert result.failures == []
    assert result.outcomes["read"] > 3
    assert 0 < result.peak < 4 << 30


def test_damaged_files_are_read_or_refused_in_one_line() -> None:
    done, result = last(500, "mutations:read_directly")
    assert result.failures == []
    assert done == sum(result.outcomes.values()) == 500
    assert set(result.outcomes) == {
        "read",
        "refused: HashMismatchError",
        "refused: NotACheckpointError",
        "refused: TruncatedCheckpointError",
    }
    assert 0 < result.peak < 4 << 30


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        ("raises", "ValueError: damaged"),
        ("takes_memory", "too much memory"),
        ("raises_lines", "that is long or has lines"),
        ("dies", "ended with -9 after file"),
    ],
)
def test_a_reader_that_fails_is_told(
    reader: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    _, result = last(3, f"test_mutations:{reader}")
    assert message in result.failures[-1]


def test_a_run_is_the_same_each_time() -> None:
    files = [data for data in seeds() if b"storage" not in data]  # torch's old format names storages by address
    assert [mutated(number, files) for number in range(20)] == [mutated(number, files) for number in range(20)]


_calls: list[Path] = []
_SEEDS = 15


def _after_the_seeds(path: Path) -> bool:
    _calls.append(path)
    return len(_calls) > _SEEDS


def raises(path: Path) -> None:
    if _after_the_seeds(path):
        raise ValueError("damaged")


class TwoLinesError(simplenet.errors.SimpleNetError):
    def __str__(self) -> str:
        return "two\nlines"


def takes_memory(path: Path) -> None:
    if _after_the_seeds(path):
        try:
            bytearray(1 << 40)
        except MemoryError as error:
            raise simplenet.errors.NotACheckpointError("damaged") from error


def raises_lines(path: Path) -> None:
    raise TwoLinesError


def dies(path: Path) -> None:
    if _after_the_seeds(path):
        os.kill(os.getpid(), signal.SIGKILL)
