"""Carrying out what the planner says of rebuilds: asking for them, beginning and ending their runs, giving them up."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from visualindex.errors import ProblemError
from visualindex.planning.conditions import Reason
from visualindex.planning.observations import Member
from visualindex.planning.plan import AskReindex, ReindexingAction
from visualindex.planning.reindexing import BeginReindex, EndReindexRun, FailReindex
from visualindex.spec import Spec
from visualindex.spec.status import Status
from visualindex_operator import names
from visualindex_operator.announcing import Announce
from visualindex_operator.api_key import first_key
from visualindex_operator.dependencies import DependencyChecks
from visualindex_operator.homes import Seen
from visualindex_operator.live import Live, Object
from visualindex_operator.members import GroupKey
from visualindex_operator.probes import Probes
from visualindex_operator.reasons import EventReason
from visualindex_operator.reindex_runs import ReindexRuns, RunRefused

_SAID = 500


class Reindexing:
    """Rebuilds of all indexes, in each mode's own kind of place."""

    def __init__(
        self, runs: Mapping[str, ReindexRuns], probes: Probes, checks: DependencyChecks, tell: Announce
    ) -> None:
        self._runs, self._probes, self._checks, self._tell = runs, probes, checks, tell
        self._refused: dict[tuple[str, str], str] = {}
        self._unheard: set[tuple[str, str]] = set()

    async def carry_out(self, key: GroupKey, action: ReindexingAction, body: Object, seen: Seen) -> list[str]:
        """Do what one action says; returns what was written, a line each. What is refused is told once. Raises KubeError."""
        place = (key[0], action.index)
        try:
            written = await self._carried_out(key, action, body, seen)
        except (RunRefused, ProblemError) as problem:
            if self._refused.get(place) != str(problem):
                self._tell(body, "Warning", EventReason.REINDEX_REFUSED, str(problem)[:1000])
            self._refused[place] = str(problem)
            return []
        self._refused.pop(place, None)
        return written

    def told(self, namespace: str, member: Member, status: Status) -> Status:
        """The status, with why a rebuild was refused; an annotation that was not heard in this look counts as unheard."""
        status = _with_refusal(status, self._refused.get((namespace, member.name), ""))
        if (namespace, member.name) not in self._unheard or status.reindex is None:
            return status
        self._unheard.discard((namespace, member.name))
        asked = member.status.reindex.asked if member.status.reindex is not None else ""
        return status.model_copy(update={"reindex": status.reindex.model_copy(update={"asked": asked})})

    def forget(self, namespace: str, index: str) -> None:
        """Drop what is remembered of an index that is gone."""
        self._refused.pop((namespace, index), None)
        self._unheard.discard((namespace, index))

    async def end_all(self, key: GroupKey, body: Object, spec: Spec, live: Live) -> None:
        """End every run of an index that is being deleted. Raises KubeError; a refusal is told."""
        namespace, mode, _ = key
        index = body["metadata"]["name"]
        with self._telling(body):
            for run in await self._runs[mode].of(namespace, index, spec, live):
                if run.state != "leaving":
                    with self._telling(body):
                        await self._runs[mode].end(namespace, index, spec, run)

    @contextmanager
    def _telling(self, body: Object) -> Iterator[None]:
        """Goes on after a refusal, which is told."""
        try:
            yield
        except RunRefused as problem:
            self._tell(body, "Warning", EventReason.REINDEX_REFUSED, str(problem)[:1000])

    async def _carried_out(
        self, key: GroupKey, action: ReindexingAction, body: Object, seen: Seen
    ) -> list[str]:
        namespace, mode, cluster = key
        runs, observed = self._runs[mode], seen.observed.members[action.index]
        match action:
            case AskReindex():
                return await self._ask(namespace, action, observed.serving.url)
            case BeginReindex():
                return await runs.begin(namespace, cluster, action, body, seen.fresh.get(action.index))
            case EndReindexRun():
                run = next(one for one in observed.runs or () if one.name == action.run)
                return await runs.end(namespace, action.index, action.spec, run)
            case FailReindex():
                return await self._fail(action, seen)

    async def _ask(self, namespace: str, action: AskReindex, url: str) -> list[str]:
        self._unheard.add((namespace, action.index))
        name = action.spec.access.keys_secret_ref or names.api_keys_secret(action.index)
        key = first_key(name, dict(await self._checks.secret(namespace, name) or {}))
        problem = await self._probes.ask_reindex(url, action.index, key)
        if problem is not None:
            raise RunRefused(f"the annotation {names.REINDEX} asks for a rebuild, and {problem}")
        self._unheard.discard((namespace, action.index))
        return [f"asked for a rebuild ({action.value})"]

    async def _fail(self, action: FailReindex, seen: Seen) -> list[str]:
        credentials = seen.fresh.get(action.index)
        if credentials is None:
            return []
        problem = await self._probes.fail_job(credentials.dsn, action.job, action.problem)
        if problem is not None:
            raise RunRefused(f"job {action.job} has failed, which cannot be noted: {problem}")
        return [f"gave job {action.job} up"]


def _with_refusal(status: Status, refused: str) -> Status:
    """Where a rebuild waits, what was refused of it belongs to what is told of it."""
    told = next((one for one in status.conditions if one.type == "Reindexing"), None)
    if not refused or status.reindex is None or told is None or told.reason != Reason.REINDEX_WAITS:
        return status
    message = f"{told.message}: {refused}"[:_SAID]
    conditions = [
        one.model_copy(update={"message": message}) if one is told else one for one in status.conditions
    ]
    reindex = status.reindex.model_copy(update={"progress": message})
    return status.model_copy(update={"conditions": conditions, "reindex": reindex})
