from simplenet.checkpoint.reading import Global, StandIn


def test_a_stand_in_is_compared_and_hashed_by_identity() -> None:
    one, other = StandIn("__main__", "A", (1,)), StandIn("__main__", "A", (1,))
    assert one != other
    assert len({one, other, one}) == 2
    assert Global("a", "b") != Global("a", "b")


def test_a_repr_is_short_and_shows_no_data() -> None:
    huge = StandIn("m" * 10_000, "n", ("secret",))
    huge.state = {"recursive": huge}
    assert len(repr(huge)) < 200
    assert "secret" not in repr(huge)
    assert "\n" not in repr(StandIn("a\nb", "c"))


def test_a_stand_in_cannot_be_called_or_given_other_attributes() -> None:
    made = StandIn("os", "system")
    assert not callable(made)
    assert not hasattr(made, "__dict__")
    assert (made.args, made.kwargs, made.state, made.entries, made.items) == ((), {}, None, {}, [])
