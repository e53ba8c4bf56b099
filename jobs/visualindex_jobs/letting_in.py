"""What becomes of a generation that a job has built: judged, shown to live searches where the spec says so, activated.

The same for every job that builds, and for one that is taken up again: what was built is noted before it is judged.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

from visualindex.api.gate import GateReport, ShadowReport
from visualindex.building import Built
from visualindex.catalog import Catalog, JobRecord
from visualindex.errors import ProblemError
from visualindex.gate.judging import refusal
from visualindex.gate.limits import Limits
from visualindex.gate.shadow import with_shadow
from visualindex.reindexing import patiently
from visualindex.spec import VisualIndex
from visualindex_jobs.lease import Lease
from visualindex_jobs.shadowing import Shadowing

Judge = Callable[[str], Awaitable[GateReport | None]]
"""What the quality gate says of a generation; None where it is off, or where the generation is active already."""
T = TypeVar("T")
_BUILT = "built"
_LET_GO = ("failed", "retired", "gone")
_ANOTHER_ENCODER = "the index is searched with another encoder since, or is about to be: run the job again"
_ROLLED_BACK = "the index was rolled back after this was asked for: activate it by hand if it is to be served"


@dataclass(frozen=True)
class Candidates:
    """Lets what one job builds in."""

    catalog: Catalog
    resource: VisualIndex
    job: JobRecord
    lease: Lease

    async def built(self, build: Callable[[], Awaitable[Built]]) -> Built:
        """What an earlier attempt of this job built, as long as it waits; else what `build` builds now."""
        known = await self._noted()
        if known is not None:
            return known
        made = await build()
        ledger = {**(await self._ledger()), _BUILT: asdict(made)}
        await self._patiently(partial(self.catalog.set_job_ledger, self.job.fence, ledger))
        return made

    async def let_in(
        self, built: Built, judge: Judge, *, servable: bool = True, same_encoder: bool = True
    ) -> dict[str, Any]:
        """Judge it and activate it, if that is asked for and it is good enough; the job's result has what is returned, with
        the reason (`kept_back`) where it was asked for and is not.

        One that is not `servable` just now is judged alone, and with `same_encoder` one of another encoder stays as it is.
        Raises ProblemError, saying that the generation is kept, when database or store stay away for too long: resumed, the
        job goes on here.
        """
        try:
            judged = await self._patiently(partial(judge, built.generation))
            asked = (await self._as_asked()).activates_since is not None
            shadow = await self._shadowed(built, judged) if asked and built.met and servable else None
        except ProblemError as problem:
            raise self._kept(built, problem) from problem
        if judged is not None and shadow is not None:
            judged = await self._with_shadow(built, judged, shadow)
        if not asked:
            return {**_told(judged, shadow), "activating": False}
        why = _kept_back(built, judged, shadow, servable=servable)
        if why is None:
            why = await self._prepared(built, same_encoder=same_encoder)
        told = {} if why is None else {"kept_back": why}
        return {**_told(judged, shadow), "activating": why is None, **told}

    async def _as_asked(self) -> JobRecord:
        """The job as it is wanted now: others may have asked for it since it was claimed."""
        return await self._patiently(partial(self.catalog.get_job, self.job.index, self.job.job_id))

    async def _prepared(self, built: Built, *, same_encoder: bool) -> str | None:
        """Ask the shards to load it; why not, where the index was rolled back or has another encoder meanwhile."""
        since = (await self._as_asked()).activates_since
        prepare = partial(self.catalog.prepare_generation, self.resource.name, built.generation)
        asked = partial(prepare, fence=self.job.fence, same_encoder=same_encoder, since=since)
        state: str = await self._patiently(asked)
        if state != "ready":
            return None
        rolled_back = await self._patiently(partial(self.catalog.rolled_back_at, self.resource.name))
        return _ANOTHER_ENCODER if rolled_back is None else _ROLLED_BACK

    async def _noted(self) -> Built | None:
        document = (await self._ledger()).get(_BUILT)
        if document is None:
            return None
        made = Built(**document)
        records = await self.catalog.list_generations(self.resource.name)
        state = {one.generation: one.state for one in records}.get(made.generation, "gone")
        return None if state in _LET_GO else made

    async def _ledger(self) -> dict[str, Any]:
        return await self._patiently(partial(self.catalog.job_ledger, self.job.job_id)) or {}

    async def _shadowed(self, built: Built, judged: GateReport | None) -> ShadowReport | None:
        """Where a generation was judged well, and one is active that it can be compared with."""
        terms = self.resource.spec.reindex.gate.shadow
        if terms is None or judged is None or judged.active is None or judged.verdict == "refused":
            return None
        record = await self.catalog.get_generation(self.resource.name, built.generation)
        if record.state != "ready":  # somebody has decided already
            return None
        of = self.catalog, self.resource, built.generation, terms
        return await Shadowing(*of, self.job.fence, self.lease).run()

    async def _with_shadow(self, built: Built, judged: GateReport, shadow: ShadowReport) -> GateReport:
        found = with_shadow(judged, shadow, Limits.of(self.resource.spec))
        if found is not judged:
            note = partial(
                self.catalog.note_gate,
                self.resource.name,
                built.generation,
                found.model_dump(mode="json"),
                refusal(found),
                fence=self.job.fence,
            )
            await self._patiently(note)
        return found

    def _kept(self, built: Built, problem: ProblemError) -> ProblemError:
        detail = (
            f"generation {built.generation} is built and kept, but could not be judged: {problem.detail}. "
            f"`visualindex jobs resume {self.resource.name} {self.job.job_id}` goes on with judging it"
        )
        return ProblemError(problem.type, detail, retry_after_s=problem.retry_after_s)

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        return await patiently(work, self.resource.spec.reindex.patience_seconds)


def _kept_back(
    built: Built, judged: GateReport | None, shadow: ShadowReport | None, *, servable: bool
) -> str | None:
    """Why a generation is not activated though that was asked for, for people; None where nothing is against it."""
    if judged is not None and (refused := refusal(judged)) is not None:
        return refused
    if not built.met:
        return f"its measured recall of {built.recall:.3f} misses spec.index.targetRecall: activate it by hand to serve it"
    if not servable:
        return "not every write brings a vector of its encoder yet: run the job again"
    if shadow is not None and shadow.ended == "overtaken":
        return "while live searches were compared another one was activated, or took its place"
    return None


def _told(judged: GateReport | None, shadow: ShadowReport | None) -> Mapping[str, Any]:
    gate = {} if judged is None else {"gate": judged.verdict}
    if shadow is None:
        return gate
    return {
        **gate,
        "shadow": {"ended": shadow.ended, "queries": shadow.queries, "overlap": shadow.overlap},
    }
