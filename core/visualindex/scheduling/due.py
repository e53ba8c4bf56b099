"""Whether a schedule's time has come, and what becomes of times that passed while nobody looked."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from visualindex.scheduling.cron import last_time, next_time

MOST_MISSED = 100
"""How far missed times are counted."""

Policy = Literal["Forbid", "Replace"]


@dataclass(frozen=True)
class Schedule:
    """Work that is asked for again and again."""

    name: str
    cron: str
    time_zone: str
    kind: str
    """What is asked for: `refresh`, `full` or `check`."""
    policy: Policy = "Forbid"
    """What happens while the last run is under way: `Forbid` skips the new one, `Replace` cancels the old one."""
    deadline_s: float | None = None
    """Seconds after its time in which a run may still begin; None: until the next one's time."""
    suspended: bool = False

    @property
    def expression(self) -> str:
        """What decides its times: a schedule in which this changed begins anew."""
        return f"{self.cron} {self.time_zone}"


@dataclass(frozen=True)
class Due:
    """A time that has come. Of several that passed only the last one counts; `missed` tells of how many others."""

    at: datetime
    missed: int
    too_late: bool
    """Whether its deadline has passed, so that it is only noted."""


def due(schedule: Schedule, considered: datetime, now: datetime) -> Due | None:
    """The time that came after `considered`, up to which all was decided before, and until `now`; None when none did.

    Both times have a time zone. Nothing is due of a suspended schedule.
    """
    if schedule.suspended:
        return None
    at = last_time(schedule.cron, schedule.time_zone, now)
    if at is None or at <= considered:
        return None
    late = schedule.deadline_s is not None and now - at > timedelta(seconds=schedule.deadline_s)
    return Due(at, _between(schedule, considered, at), late)


def _between(schedule: Schedule, considered: datetime, at: datetime) -> int:
    count, moment = 0, next_time(schedule.cron, schedule.time_zone, considered)
    while moment is not None and moment < at and count < MOST_MISSED:
        count, moment = count + 1, next_time(schedule.cron, schedule.time_zone, moment)
    return count
