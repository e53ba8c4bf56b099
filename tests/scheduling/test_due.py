"""What is due at a moment, and what becomes of times that passed while nobody looked."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from visualindex.scheduling import Due, Schedule, due
from visualindex.scheduling.due import MOST_MISSED

NIGHTLY = Schedule("nightly", "0 3 * * *", "Europe/Berlin", "full")
THREE = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)
"""Three in the morning in Berlin."""
BEFORE = THREE - timedelta(hours=1)


def test_nothing_is_due_before_its_time_and_once_after_it() -> None:
    assert due(NIGHTLY, BEFORE, THREE - timedelta(seconds=1)) is None
    assert due(NIGHTLY, BEFORE, THREE) == Due(THREE, 0, too_late=False)
    assert due(NIGHTLY, BEFORE, THREE + timedelta(hours=20)) == Due(THREE, 0, too_late=False)
    assert due(NIGHTLY, THREE, THREE + timedelta(hours=20)) is None


def test_of_several_times_that_passed_the_last_one_counts_and_the_others_are_told() -> None:
    found = due(NIGHTLY, BEFORE, THREE + timedelta(days=4, hours=1))
    assert found == Due(THREE + timedelta(days=4), 4, too_late=False)
    hourly = replace(NIGHTLY, cron="* * * * *")
    long_ago = due(hourly, BEFORE - timedelta(days=300), THREE)
    assert long_ago is not None
    assert long_ago.missed == MOST_MISSED


def test_a_run_may_begin_until_its_deadline() -> None:
    strict = replace(NIGHTLY, deadline_s=600)
    on_time = due(strict, BEFORE, THREE + timedelta(seconds=600))
    late = due(strict, BEFORE, THREE + timedelta(seconds=601))
    assert on_time is not None
    assert late is not None
    assert (on_time.too_late, late.too_late) == (False, True)


def test_nothing_is_due_while_it_is_suspended() -> None:
    assert due(replace(NIGHTLY, suspended=True), BEFORE, THREE) is None
