"""What to do for a rebuild that has a place of its own: begin a run of it, end one, or give it up.

The job in the database is the truth: who asked for it, how far it is, who holds it. A run is nothing but a place for a
process that claims the job; it may be lost at any time, and another one goes on. Names are made of numbers, so that what is
done twice is done once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from visualindex.planning.observations import MemberObserved, ReindexJob, ReindexRun
from visualindex.spec import Spec

NAME_LENGTH = 47
"""KubeRay takes no longer names of RayJobs."""
SILENT = timedelta(minutes=5)
"""Time after which a run that says it runs, of a job that nobody holds, is lost."""
LINGERS = timedelta(minutes=2)
"""Time in which a run whose job has ended may end by itself."""
REMEMBERED = timedelta(hours=1)
"""Time for which a run that ended is kept to look at."""
REFUSED = "ValidationFailed"
"""The stage of a RayJob that no repetition makes better."""
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=10), timedelta(minutes=5)


@dataclass(frozen=True)
class BeginReindex:
    """Begin a run of a job."""

    index: str
    spec: Spec
    run: str
    job: str
    number: int
    attempt: int
    chunks: int


@dataclass(frozen=True)
class EndReindexRun:
    """End a run, or forget one that has ended."""

    index: str
    spec: Spec
    run: str


@dataclass(frozen=True)
class FailReindex:
    """Note in the job that it cannot be carried out."""

    index: str
    job: str
    problem: str


ReindexAction = BeginReindex | EndReindexRun | FailReindex


def reindex_actions(
    index: str, spec: Spec, seen: MemberObserved, now: datetime, *, may_begin: bool
) -> Iterator[ReindexAction]:
    """What to do now. `may_begin` while what a run depends on is there; one that is under way stays when it is not."""
    if seen.runs is None or seen.generations is None:
        return  # it is not known how things stand
    job = seen.reindex if seen.reindex is not None and seen.reindex.apart else None
    wanted = job if job is not None and job.waits_or_runs and not spec.suspend else None
    own = sorted((run for run in seen.runs if wanted and run.job == wanted.id), key=lambda run: run.number)
    for run in seen.runs:
        if run not in own and _is_to_go(run, seen.reindexed, now):
            yield EndReindexRun(index, spec, run.name)
    if wanted is not None and may_begin:
        yield from _carried_on(index, spec, wanted, own, now)


def run_name(index: str, job: str, number: int) -> str:
    """The name of a run: of the index, the job's first digits, and its number."""
    end = f"-reindex-{job[:8]}-{number}"
    return f"{index[: NAME_LENGTH - len(end)].rstrip('-')}{end}"


def _is_to_go(run: ReindexRun, ended: ReindexJob | None, now: datetime) -> bool:
    if run.state == "leaving":
        return False
    if run.state == "ended":
        return run.ended is None or now - run.ended > REMEMBERED
    by_itself = ended is not None and ended.id == run.job and ended.state in ("done", "failed")
    return not (by_itself and ended is not None and ended.ended is not None and now - ended.ended < LINGERS)


def _carried_on(
    index: str, spec: Spec, job: ReindexJob, runs: Sequence[ReindexRun], now: datetime
) -> Iterator[ReindexAction]:
    def begin(number: int, attempt: int) -> BeginReindex:
        name = run_name(index, job.id, number)
        return BeginReindex(index, spec, name, job.id, number, attempt, job.chunks)

    if not runs:
        yield begin(1, 1)
        return
    last = runs[-1]
    lost = _is_lost(last, job, now)
    if job.held or not (lost or last.state in ("ended", "leaving")):
        return
    attempt = 1 if job.chunks > last.chunks else last.attempt + (last.state != "leaving")
    if attempt > spec.reindex.attempts or last.stage == REFUSED:
        # Who resumes the job later begins to count anew.
        yield from (EndReindexRun(index, spec, run.name) for run in runs if run.state != "leaving")
        yield FailReindex(index, job.id, _given_up(last))
        return
    if lost:
        yield EndReindexRun(index, spec, last.name)
    if last.ended is None or now - last.ended >= _pause(attempt):
        yield begin(last.number + 1, attempt)


def _is_lost(run: ReindexRun, job: ReindexJob, now: datetime) -> bool:
    """Its head is gone and nobody told its home, or its process hangs: the job's lease ended, and nobody took it up."""
    since = run.created if job.released is None else max(job.released, run.created or job.released)
    return run.state == "running" and not job.held and since is not None and now - since > SILENT


def _pause(attempt: int) -> timedelta:
    """Before the first run of its kind none; then ever longer."""
    return timedelta() if attempt == 1 else min(_FIRST_PAUSE * 2 ** min(attempt - 2, 10), _LONGEST_PAUSE)


def _given_up(last: ReindexRun) -> str:
    why = last.problem or f"it ended as {last.stage or 'unknown'} without a word"
    if last.stage == REFUSED:
        return f"{last.name} was refused: {why}"
    times = "once" if last.attempt == 1 else f"{last.attempt} times in a row"
    return f"{last.name} came to nothing, as did those before, {times} (spec.reindex.attempts): {why}"
