"""What schedules ask for: any gateway looks, and the catalog sees to it that each time brings one job."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from visualindex.api.schedules import ScheduleRunView, ScheduleView
from visualindex.catalog import BUILD, CHECK, REINDEX, Catalog, ScheduleRun
from visualindex.scheduling import Schedule, next_time
from visualindex.spec import VisualIndex
from visualindex_serving.reindex_asked import reindex_parameters

logger = logging.getLogger(__name__)

_JOBS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "refresh": (BUILD, {"activate": True}),
    "check": (CHECK, {"repair": True, "vectors": True}),
}
_RUNS = 10


async def ask_what_is_due(catalog: Catalog, resource: VisualIndex, now: datetime | None = None) -> None:
    """Ask for the jobs whose time has come, by the database's clock unless `now` is given."""
    schedules = [one.schedule for one in resource.spec.reindex.schedules]
    for schedule in schedules:
        kind, parameters = _job(schedule.kind, resource)
        decided = await catalog.run_schedule(resource.name, schedule, kind, parameters, now=now)
        if decided is not None:
            about = (resource.name, schedule.name, decided.scheduled_at, decided.outcome)
            logger.info("index %s: schedule %s of %s: %s", *about)


def _job(kind: str, resource: VisualIndex) -> tuple[str, Mapping[str, Any]]:
    """The kind of job that a kind of schedule asks for, and with which parameters."""
    if kind == "full":
        return REINDEX, reindex_parameters(resource.spec, activate=True)
    return _JOBS[kind]


async def schedule_views(
    catalog: Catalog, resource: VisualIndex, now: datetime | None = None
) -> list[ScheduleView]:
    """The schedules of the spec with their next times and what became of the last ones."""
    moment = now or datetime.now(UTC)
    views = []
    for one in resource.spec.reindex.schedules:
        runs = await catalog.list_schedule_runs(resource.name, one.name, _RUNS)
        views.append(_view(one.schedule, runs, moment))
    return views


def _view(schedule: Schedule, runs: list[ScheduleRun], now: datetime) -> ScheduleView:
    upcoming = None if schedule.suspended else next_time(schedule.cron, schedule.time_zone, now)
    return ScheduleView.model_validate(
        {
            "name": schedule.name,
            "kind": schedule.kind,
            "cron": schedule.cron,
            "time_zone": schedule.time_zone,
            "suspended": schedule.suspended,
            "next_at": upcoming,
            "runs": [
                ScheduleRunView(
                    scheduled_at=run.scheduled_at,
                    decided_at=run.decided_at,
                    outcome=run.outcome,
                    missed=run.missed,
                    job_id=run.job_id,
                    became=run.became,
                    problem=run.problem,
                )
                for run in runs
            ],
        }
    )
