"""Which searches a shard answers at once, and which it hands to a thread."""

from visualindex_serving.pace import Pace


def paced(*milliseconds: float) -> Pace:
    pace = Pace()
    for took in milliseconds:
        pace.took(took)
    return pace


def test_what_was_never_measured_goes_to_a_thread() -> None:
    assert not Pace().quick


def test_searches_that_keep_being_short_are_answered_at_once() -> None:
    assert paced(*[0.3] * 20).quick


def test_one_long_search_changes_nothing() -> None:
    assert paced(*[0.3] * 50, 200.0).quick


def test_long_searches_send_the_next_ones_to_a_thread_until_they_are_short_again() -> None:
    assert not paced(*[0.3] * 50, *[5.0] * 5).quick
    assert paced(*[0.3] * 50, *[5.0] * 5, *[0.3] * 30).quick


def test_searches_that_take_longer_than_the_way_to_a_thread_never_are() -> None:
    assert not paced(*[1.5] * 1000).quick
