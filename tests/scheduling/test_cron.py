"""Cron times in a time zone, above all where its clocks change."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visualindex.scheduling import checked_cron, checked_time_zone, next_time
from visualindex.scheduling.cron import last_time

BERLIN = "Europe/Berlin"


def times(cron: str, after: datetime, count: int, zone: str = BERLIN) -> list[str]:
    found: list[str] = []
    moment: datetime | None = after
    for _ in range(count):
        assert moment is not None
        moment = next_time(cron, zone, moment)
        assert moment is not None
        found.append(moment.isoformat())
    return found


def test_a_time_that_the_clock_skips_comes_when_it_was_put_forward() -> None:
    assert times("30 2 * * *", datetime(2026, 3, 28, 12, tzinfo=UTC), 2) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]


def test_a_time_that_the_clock_repeats_comes_once() -> None:
    assert times("30 2 * * *", datetime(2026, 10, 24, 12, tzinfo=UTC), 2) == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-26T02:30:00+01:00",
    ]


def test_every_hour_that_passes_has_its_time() -> None:
    hours = [
        datetime.fromisoformat(one) for one in times("0 * * * *", datetime(2026, 10, 24, 22, tzinfo=UTC), 6)
    ]
    assert {later - earlier for earlier, later in pairwise(hours)} == {timedelta(hours=1)}


CRONS = st.sampled_from(["0 3 * * *", "30 2 * * *", "*/15 * * * *", "0 * * * *", "5 4 * * 1", "0 0 1 * *"])
MOMENTS = st.integers(0, 2 * 365 * 86_400).map(
    lambda second: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
)


@given(CRONS, MOMENTS, st.sampled_from([BERLIN, "America/New_York", "Asia/Kathmandu", "UTC"]))
def test_the_last_time_is_the_one_whose_next_is_still_to_come(cron: str, now: datetime, zone: str) -> None:
    last = last_time(cron, zone, now)
    assert last is not None
    assert last <= now
    following = next_time(cron, zone, last)
    assert following is not None
    assert following > now


@pytest.mark.parametrize("cron", ["", "3 * * *", "0 0 3 * * *", "61 * * * *", "0 0 31 2 *", "@daily"])
def test_what_is_no_expression_is_refused_by_name(cron: str) -> None:
    with pytest.raises(ValueError, match="is no cron expression"):
        checked_cron(cron)


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../etc/passwd"])
def test_what_is_no_time_zone_is_refused_by_name(zone: str) -> None:
    with pytest.raises(ValueError, match="there is no time zone"):
        checked_time_zone(zone)


def test_good_ones_are_taken_as_they_are() -> None:
    assert checked_cron("0 3 * * 1-5") == "0 3 * * 1-5"
    assert checked_time_zone(BERLIN) == BERLIN
