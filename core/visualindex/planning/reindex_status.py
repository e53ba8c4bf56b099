"""What `status.reindex` and the condition `Reindexing` say of the rebuilds of an index."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, cast

from visualindex.planning.conditions import Reason, condition
from visualindex.planning.observations import MemberObserved, ReindexJob, ReindexRun
from visualindex.spec import Spec
from visualindex.spec.status import Condition, ReindexOutcome, ReindexStatus

_SAID = 500


def reindex_status(
    seen: MemberObserved, spec: Spec | None, old: ReindexStatus | None
) -> ReindexStatus | None:
    """The rebuild under way and the last one; what was told before while the database does not tell."""
    if seen.generations is None:
        return old
    job, asked = seen.reindex, old.asked if old is not None else ""
    last = _outcome(seen.reindexed)
    if job is None:
        left = _left(seen, old)
        return ReindexStatus(run=left, last=last, asked=asked) if last is not None or asked or left else None
    run = latest_run(seen.runs or (), job)
    return ReindexStatus(
        job=job.id,
        state=job.state,
        started_at=None if job.started is None else _text(job.started),
        progress=_told(seen, job, run, spec),
        run="" if run is None else run.name,
        last=last,
        asked=asked,
    )


def reindexing(seen: MemberObserved, spec: Spec | None, old: Sequence[Condition]) -> Condition:
    """A rebuild is under way; else how the last one ended. What it said last holds while the database does not tell."""
    if seen.generations is None:
        said = next((c for c in old if c.type == "Reindexing"), None)
        return said or condition("Reindexing", None, Reason.NO_REINDEX, "the database has not told yet")
    job, last = seen.reindex, seen.reindexed
    if job is None:
        return _ended(last)
    if job.state == "paused":
        return condition(
            "Reindexing", False, Reason.REINDEX_PAUSED, f"job {job.id} is paused: resume or cancel it"
        )
    run = latest_run(seen.runs or (), job)
    reason = Reason.REINDEX_RUNS if job.held else Reason.REINDEX_WAITS
    return condition("Reindexing", True, reason, _told(seen, job, run, spec))


def progress(job: ReindexJob, run: ReindexRun | None, spec: Spec | None) -> str:
    """How far it is, or what it waits for."""
    if job.held:
        return f"{job.phase}{_counted(job, spec)}"
    if job.state == "paused":
        return "paused"
    if not job.apart:
        return "waits for a gateway to carry it out"
    if run is None or run.state == "leaving":
        return "waits for a place of its own"
    if run.state == "ended":
        return (
            f"waits for a repetition: {run.name} ended ({run.stage}): {run.problem or 'no reason was told'}"[
                :_SAID
            ]
        )
    return f"waits for {run.name} ({run.stage or 'not begun yet'})"


def _left(seen: MemberObserved, old: ReindexStatus | None) -> str:
    """A run that is there beyond its job, so that whoever ends and forgets it looks for it again."""
    if seen.runs is None:
        return old.run if old is not None else ""
    return max((run.name for run in seen.runs), default="")


def _told(seen: MemberObserved, job: ReindexJob, run: ReindexRun | None, spec: Spec | None) -> str:
    """How far a rebuild is, or what keeps the operator from finding it a place: its home does not tell what it runs."""
    if seen.runs is None and job.apart and job.waits_or_runs and not job.held:
        return f"waits for a place of its own: {seen.runs_untold}"[:_SAID]
    return progress(job, run, spec)


def latest_run(runs: Sequence[ReindexRun], job: ReindexJob) -> ReindexRun | None:
    """The run of a job that was begun last."""
    return max((run for run in runs if run.job == job.id), key=lambda run: run.number, default=None)


def _counted(job: ReindexJob, spec: Spec | None) -> str:
    if not job.total:
        return ""
    images = f"images {job.done:,}/{job.total:,}"
    if spec is None or not job.phase.startswith("encoding"):
        return f": {job.done:,}/{job.total:,}"
    size = spec.reindex.chunk_images
    return f": chunks {math.ceil(job.done / size):,}/{math.ceil(job.total / size):,}, {images}"


def _ended(last: ReindexJob | None) -> Condition:
    if last is None:
        return condition("Reindexing", False, Reason.NO_REINDEX, "none was asked for")
    reason = {
        "done": Reason.REINDEX_DONE,
        "failed": Reason.REINDEX_FAILED,
        "cancelled": Reason.REINDEX_CANCELLED,
    }[last.state]
    what = last.problem or last.outcome
    when = "" if last.ended is None else f" at {last.ended.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    message = f"job {last.id} ended{when}" + (f": {what}" if what else "")
    return condition("Reindexing", False, reason, message[:_SAID])


def _outcome(last: ReindexJob | None) -> ReindexOutcome | None:
    if last is None:
        return None
    return ReindexOutcome(
        job=last.id,
        state=cast('Literal["done", "failed", "cancelled"]', last.state),
        ended_at=None if last.ended is None else _text(last.ended),
        outcome=(last.problem or last.outcome)[:_SAID],
    )


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
