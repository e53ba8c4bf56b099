"""What a job that is queued waits for, told to people: it may stand behind jobs of other indexes for long."""

from collections.abc import Collection, Sequence

from visualindex.catalog import APART, PLACE, JobRecord


def waits_for(job: JobRecord, at_work: Sequence[JobRecord], indexes: Collection[str]) -> str:
    """What `job` waits for, with `at_work` running. Jobs of other indexes than `indexes` are counted and not named."""
    if _is_apart(job):
        return "waiting for the operator to find it a place"
    before = [one for one in at_work if not _is_apart(one)]
    if not before:
        return "waiting for a gateway to take it up"
    named = [f"{one.kind} of {one.index} ({one.phase})" for one in before if one.index in indexes]
    if others := len(before) - len(named):
        named.append(f"{others} of other indexes")
    return f"waiting; running now: {', '.join(named)}"


def _is_apart(job: JobRecord) -> bool:
    return job.parameters.get(PLACE) == APART
