"""Waiting until nothing is in flight."""

import itertools

from simplenet.server.quiet import quiet

QUICK = {"quiet_s": 0.01, "poll_s": 0.001}


def test_requests_that_keep_coming_are_not_waited_for_forever():
    assert quiet(lambda: 1, patience_s=0.02, **QUICK) == 1
    counts = itertools.cycle([0, 1])
    assert quiet(lambda: next(counts), patience_s=0.05, **QUICK) == 1


def test_one_moment_without_requests_is_not_enough():
    counts = [0, 0, 5, *[0] * 5]
    seen = []

    def count() -> int:
        seen.append(counts[min(len(seen), len(counts) - 1)])
        return seen[-1]

    assert quiet(count, patience_s=60, quiet_s=0.2, poll_s=0.01) == 0
    assert 5 in seen


def test_a_quiet_that_has_begun_is_waited_for_though_patience_is_over():
    assert quiet(lambda: 0, patience_s=0, **QUICK) == 0


def test_what_is_not_known_is_not_quiet():
    assert quiet(lambda: None, patience_s=0.02, **QUICK) is None
    counts = itertools.chain([0, None], itertools.repeat(0))
    assert quiet(lambda: next(counts), patience_s=60, **QUICK) == 0
