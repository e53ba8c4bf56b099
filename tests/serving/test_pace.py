"""Which searches a shard answers at once, and which it hands to a thread."""

import pytest

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


def test_one_that_takes_somewhat_longer_changes_nothing() -> None:
    assert paced(*[0.3] * 50, 4.9).quick


def test_long_searches_send_the_next_ones_to_a_thread_until_they_are_short_again() -> None:
    assert not paced(*[0.3] * 50, *[5.0] * 5).quick
    assert paced(*[0.3] * 50, *[5.0] * 5, *[0.3] * 30).quick


def test_after_a_long_search_short_ones_make_up_for_it_before_they_are_answered_at_once() -> None:
    assert not paced(*[0.3] * 50, 20.0, *[0.3] * 390).quick
    assert paced(*[0.3] * 50, 20.0, *[0.3] * 410).quick


def test_a_machine_that_stood_still_is_forgotten_in_the_end() -> None:
    assert paced(*[0.3] * 50, 600_000.0, *[0.3] * 20_100).quick


@pytest.mark.parametrize("every", [2, 5, 6, 10, 100, 1000])
def test_long_searches_among_short_ones_are_not_run_at_once(every: int) -> None:
    pace = paced(*[0.1] * 100)
    at_once = 0
    for number in range(10_000):
        long = number % every == every - 1
        at_once += long and pace.quick
        pace.took(500.0 if long else 0.1)
    assert at_once <= 1


def test_searches_that_take_longer_than_the_way_to_a_thread_never_are() -> None:
    assert not paced(*[1.5] * 1000).quick
