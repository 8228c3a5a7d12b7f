"""Find the members of a batch that make it fail, by running it in halves.

With one culprit in 64 members there are at most 9 passes: the one that failed, 6 to halve down to one member, one to
make sure of a member that no pass had alone, and one for all the members that were passed over on the way. With any
number of culprits in n members there are never more than 2n passes: every part of the tree of halves is run at most
once, which makes 2n - 1, and those that were passed over once together.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

Failure = TypeVar("Failure")
Attempt = Callable[[Sequence[int]], Failure | None]


def find_culprits(
    count: int,
    attempt: Attempt[Failure],
    first: Failure,
    too_large: Callable[[Failure], bool] = lambda failure: False,
    in_time: Callable[[], bool] = lambda: True,
) -> tuple[dict[int, Failure], list[int]]:
    """Run parts of a batch that failed as a whole until every member has succeeded, or has failed alone.

    Args:
        count: of the members.
        attempt: runs these members together and keeps their results; returns what failed, or None.
        first: what failed when all members ran together.
        too_large: whether a part failed for its size: both of its halves may succeed, and no parts are joined.
        in_time: asked before every pass; once it says no, no other pass begins.

    Returns:
        What failed for each culprit, and the members that were not settled in time.

    Example:
        >>> def attempt(members):
        ...     return "fails" if 5 in members else None
        >>> find_culprits(8, attempt, "fails")
        ({5: 'fails'}, [])
    """
    if count == 1:
        return {0: first}, []
    search = _Search(attempt, too_large, in_time)
    with suppress(_LateError):
        search.run_all(range(count), first)
    return search.culprits, [member for member in range(count) if member not in search.settled]


class _LateError(Exception):
    """There is no time for another pass."""


class _Search(Generic[Failure]):
    """A search under way.

    `waiting` holds parts, the next one last, each with what failed in it: None if nobody knows whether it fails.
    """

    def __init__(
        self, attempt: Attempt[Failure], too_large: Callable[[Failure], bool], in_time: Callable[[], bool]
    ) -> None:
        self.attempt, self.too_large, self.in_time = attempt, too_large, in_time
        self.culprits: dict[int, Failure] = {}
        self.settled: set[int] = set()
        self.waiting: list[tuple[Sequence[int], Failure | None]] = []

    def run_all(self, members: Sequence[int], failure: Failure) -> None:
        """Settle all members, which failed together."""
        self.waiting = [(members, failure)]
        joined = False
        while self.waiting:
            part, failed = self.waiting.pop()
            if failed is not None and len(part) > 1:
                self._halve(part, failed)
            elif (failed := self._run(part)) is not None and len(part) > 1:
                self.waiting.append((part, failed))
            if self.culprits and not joined:
                joined = True
                self._join()

    def _halve(self, part: Sequence[int], failure: Failure) -> None:
        """Run the first half; if it succeeds, the second has the culprit and need not run whole."""
        left, right = part[: len(part) // 2], part[len(part) // 2 :]
        failed = self._run(left)
        if failed is None:
            self.waiting.append((right, None if self.too_large(failure) else failure))
        else:
            self.waiting.append((right, None))
            if len(left) > 1:
                self.waiting.append((left, failed))

    def _join(self) -> None:
        """After the first culprit: often the only one, so all parts that wait may succeed together."""
        if len(self.waiting) < 2 or any(map(self.too_large, self.culprits.values())):
            return
        if self._run([member for part, _ in reversed(self.waiting) for member in part]) is None:
            self.waiting.clear()

    def _run(self, part: Sequence[int]) -> Failure | None:
        """What fails in a part; if nothing does, or if it has one member, its members are settled."""
        if not self.in_time():
            raise _LateError
        failure = self.attempt(part)
        if failure is None or len(part) == 1:
            self.settled.update(part)
        if failure is not None and len(part) == 1:
            self.culprits[part[0]] = failure
        return failure
