"""What is said of the schedules of an index."""

import datetime as dt
import uuid
from typing import Literal

from pydantic import BaseModel, Field


class ScheduleRunView(BaseModel):
    """What became of one time of a schedule."""

    scheduled_at: dt.datetime = Field(description="Its time.")
    decided_at: dt.datetime = Field(description="When it was decided on.")
    outcome: Literal["requested", "replaced", "skipped", "late"] = Field(
        description="`requested`: a job was asked for; `replaced`: so it was, and the job before was cancelled; `skipped`: "
        "the job before was under way; `late`: its deadline had passed."
    )
    missed: int = Field(description="Times before it that passed while nothing ran, at most 100.")
    job_id: uuid.UUID | None = Field(description="The job; of `skipped` the one that was under way.")
    became: str | None = Field(
        default=None,
        description="Where that job stands: its state, or `refused` where the quality gate kept back what it built; null "
        "without a job, and for one that is forgotten.",
    )
    problem: str | None = Field(
        default=None, description="Why that job failed, or did not activate what it built."
    )


class ScheduleView(BaseModel):
    """A schedule of an index, when it is due next, and what became of its last times."""

    name: str = Field(description="The schedule.")
    kind: Literal["refresh", "full", "check"] = Field(description="What it asks for.")
    cron: str = Field(description="When.")
    time_zone: str = Field(description="In which time zone.")
    suspended: bool = Field(description="Whether it asks for nothing.")
    next_at: dt.datetime | None = Field(description="Its next time; null while it is suspended.")
    runs: list[ScheduleRunView] = Field(description="Its last times, the newest first.")
