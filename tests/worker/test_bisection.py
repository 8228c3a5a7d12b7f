"""The search for the members that make a batch fail: all are found, the others succeed, the passes are few."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simplenet.worker.bisection import find_culprits


class Batch:
    """Members of which some make every part fail that holds one of them; counts its passes."""

    def __init__(self, count: int, culprits: set[int]) -> None:
        self.count, self.culprits = count, culprits
        self.passes: list[list[int]] = []
        self.succeeded: list[int] = []

    def attempt(self, members: Sequence[int]) -> str | None:
        self.passes.append(list(members))
        if found := self.culprits.intersection(members):
            return f"{min(found)} fails"
        self.succeeded += members
        return None

    def search(self) -> dict[int, str]:
        """The culprits; every other member has succeeded, once."""
        first = self.attempt(range(self.count))
        assert first is not None
        found, late = find_culprits(self.count, self.attempt, first)
        assert late == []
        assert sorted(self.succeeded) == [one for one in range(self.count) if one not in self.culprits]
        return found


@pytest.mark.parametrize("place", range(64))
def test_one_culprit_in_64_is_found_in_at_most_12_passes_wherever_it_is(place):
    batch = Batch(64, {place})
    assert batch.search() == {place: f"{place} fails"}
    assert [place] in batch.passes
    assert len(batch.passes) <= 9  # 12 was asked for


@given(
    st.integers(1, 80).flatmap(lambda count: st.tuples(st.just(count), st.sets(st.integers(0, count - 1), min_size=1)))
)
def test_any_number_of_culprits_is_found_in_at_most_two_passes_per_member(drawn):
    count, culprits = drawn
    batch = Batch(count, culprits)
    assert batch.search() == {one: f"{one} fails" for one in culprits}
    assert len(batch.passes) <= 2 * count


@pytest.mark.parametrize("count", [1, 2, 3, 63, 64])
def test_where_all_fail_each_fails_alone_and_no_pass_is_made_twice(count):
    batch = Batch(count, set(range(count)))
    assert set(batch.search()) == set(range(count))
    assert len(batch.passes) <= 2 * count
    assert len({tuple(members) for members in batch.passes}) == len(batch.passes)


@given(st.integers(2, 64), st.integers(1, 64))
def test_a_batch_that_is_only_too_large_is_halved_until_all_members_succeed(count, most):
    passes, succeeded = [], []

    def attempt(members: Sequence[int]) -> str | None:
        passes.append(len(members))
        if len(members) > most:
            return "too large"
        succeeded.extend(members)
        return None

    found, late = find_culprits(count, attempt, "too large", too_large=lambda failure: True)
    assert (found, late) == ({}, [])
    assert sorted(succeeded) == list(range(count))
    assert len(passes) <= 2 * count
    assert passes.count(count) == 0


def test_members_too_large_for_any_pass_fail_alone_and_take_no_other_with_them():
    batch = Batch(64, {3, 40})
    found, late = find_culprits(64, batch.attempt, "too large", too_large=lambda failure: True)
    assert (set(found), late) == ({3, 40}, [])
    assert max(map(len, batch.passes)) <= 32  # parts are never joined


def test_a_failure_that_does_not_come_again_fails_nobody():
    batch = Batch(8, set())
    assert find_culprits(8, batch.attempt, "once") == ({}, [])
    assert sorted(batch.succeeded) == list(range(8))


@pytest.mark.parametrize("passes", range(8))
def test_no_pass_begins_after_the_time_is_up_and_who_is_not_settled_is_named(passes):
    batch = Batch(64, {0})
    found, late = find_culprits(64, batch.attempt, "fails", in_time=lambda: len(batch.passes) < passes)
    assert len(batch.passes) == min(passes, 7)
    assert sorted([*found, *late, *batch.succeeded]) == list(range(64))
