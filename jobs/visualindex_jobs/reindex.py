"""The job that rebuilds an index: what its images lack is made from their originals, then a generation is built of all.

It goes in rounds. The first plan is of one moment; later ones take what came meanwhile. Whatever ends this process, the
job is taken up by another, which goes on with the plans in force and repeats what was under way.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from visualindex import credentials
from visualindex.api.gate import GateReport
from visualindex.building import Built, Kept, StoredPatches, build_generation
from visualindex.catalog import (
    REINDEX,
    Catalog,
    ChunkCommit,
    IndexRecord,
    JobRecord,
    Lacking,
    Refused,
)
from visualindex.encoders import fingerprint_of
from visualindex.errors import ProblemError, ProblemType
from visualindex.footprint import generation_cache
from visualindex.gate import judge
from visualindex.generations import NodeCache
from visualindex.identity import BUCKETS
from visualindex.imaging import DecodePool
from visualindex.objectstore import ObjectStore, erase_prefix, job_prefix, jobs_prefix
from visualindex.reindexing import Account, FindPatches, Ledger, Plan, make_plan, patiently
from visualindex.spec import VisualIndex
from visualindex.spec.served_encoder import encoder_settings
from visualindex_jobs.build_places import Place, builders_of, threads_of
from visualindex_jobs.changed_copies import copies_encoder
from visualindex_jobs.costs import costs
from visualindex_jobs.encoder_tools import EncoderTools, fetching
from visualindex_jobs.ending import ending
from visualindex_jobs.lease import Lease
from visualindex_jobs.letting_in import Candidates
from visualindex_jobs.opening import opened
from visualindex_jobs.reindex_here import Conveyor, Here

_WHOLE = range(BUCKETS)
_LOOK_S = 1.0
T = TypeVar("T")


@dataclass(frozen=True)
class Surroundings:
    """What the job works with. `cache_dir` holds what this node can fetch again, `scratch` what only this job needs."""

    catalog: Catalog
    store: ObjectStore
    resource: VisualIndex
    cache_dir: Path
    scratch: Path
    access: credentials.Credentials | None = None
    patches: Kept | None = None
    place: Place = "here"
    """Where the shards of the generation are built."""


def main(document: dict[str, Any], job: JobRecord, features: str | None = None) -> None:
    """Carry a claimed job out in this Ray task of a service, at the lowest priority: searches come first.

    `features` is the fingerprint of the patches that the index keeps, if it keeps any.
    """
    os.nice(10)
    asyncio.run(run(VisualIndex.model_validate(document), job, features, "beside"))


async def run(resource: VisualIndex, job: JobRecord, features: str | None, place: Place) -> None:
    """Carry a claimed job out with what this process's environment gives."""
    async with opened(resource, "reindex", connections=3) as found:
        folders = found.cache_dir, found.scratch(job.job_id)
        kept = found.kept(features)
        around = Surroundings(found.catalog, found.store, resource, *folders, found.access, kept, place)
        await carry_out(around, job, _conveyor(resource, job, place))


def _conveyor(resource: VisualIndex, job: JobRecord, place: Place) -> Conveyor | None:
    """Processes of Ray, unless this one does as well: one encoder without a GPU beside a service."""
    spec = resource.spec
    alone = spec.reindex.workers == 1 and not spec.reindex.decoders and not spec.encoder.num_gpus
    if place == "here" or (place == "beside" and alone):
        return None
    from visualindex_jobs.reindex_ray import OnRay, Places  # a job in one process needs no Ray

    beside = place == "beside"
    places = Places.of(resource, os.cpu_count() or 1, beside=beside)
    return OnRay(resource, str(job.job_id), places, beside=beside)


async def carry_out(around: Surroundings, job: JobRecord, conveyor: Conveyor | None = None) -> None:
    """Rebuild, and note the end of the job, whatever it is. Without a `conveyor` this process makes the chunks itself."""
    lease = Lease(around.catalog, job.fence)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(ending(around.catalog, job, lease))
        ledger = _ledger(around, job.job_id)
        if conveyor is None:
            here = Here(
                around.resource, ledger, around.cache_dir, threads=os.cpu_count() or 1, access=around.access
            )
            conveyor = await stack.enter_async_context(here)
        result = await _Reindex(around, job, lease, ledger, conveyor).run()
        await lease.stop()
        end = partial(around.catalog.end_job, job.fence, result=result)
        if await patiently(end, around.resource.spec.reindex.patience_seconds):
            await ledger.erase()  # whoever lost the job leaves its ledger to who has it


def _ledger(around: Surroundings, job_id: UUID) -> Ledger:
    patience_s = around.resource.spec.reindex.patience_seconds
    return Ledger(around.store, around.resource.name, str(job_id), patience_s=patience_s)


class _Reindex:
    """One run of a job."""

    def __init__(
        self, around: Surroundings, job: JobRecord, lease: Lease, ledger: Ledger, conveyor: Conveyor
    ) -> None:
        self._around = around
        self._catalog = around.catalog
        self._name = around.resource.name
        self._spec = around.resource.spec
        self._job = job
        self._lease = lease
        self._ledger = ledger
        self._conveyor = conveyor
        self._refused = 0
        self._moves = False
        """Whether the spec names another encoder than the index is searched with."""
        self._cpu = 0.0

    async def run(self) -> dict[str, Any]:
        await self._forget_ended()
        wanted = await self._wanted()
        self._refused = await self._quarantined()
        self._cpu = time.process_time()
        candidates = Candidates(self._catalog, self._around.resource, self._job, self._lease)
        built = await candidates.built(partial(self._made_and_built, wanted))
        let_in = await candidates.let_in(
            built, self._judge, servable=await self._is_servable(wanted), same_encoder=not self._moves
        )
        return {**await self._summary(built, time.process_time() - self._cpu), **let_in}

    async def _made_and_built(self, wanted: IndexRecord) -> Built:
        self._refuse_too_many(())
        plans = await self._plans_in_force(wanted)
        for plan in plans:
            await self._carry(plan)
        await self._rounds(plans, wanted)
        if self._moves and await self._is_required(wanted):
            # Whatever was written without its vector was written before: one more look finds all of it.
            whole = await self._rounds(plans, wanted)
            if whole:
                await self._catalog.complete_encoder(self._name, wanted.fingerprint, fence=self._job.fence)
        self._cpu = time.process_time()  # what chunks took is in their accounts
        return await self._build(wanted)

    async def _rounds(self, plans: list[Plan], wanted: IndexRecord) -> bool:
        """Make what is missing, then what came meanwhile; whether nothing was missing in the end."""
        for _ in range(self._spec.reindex.max_rounds):
            further = await self._plan(plans, wanted)
            if further is None:
                return True
            plans.append(further)
            await self._carry(further)
        return False

    async def _is_required(self, wanted: IndexRecord) -> bool:
        """Whether every write brings a vector of the new encoder; waits for gateways that are only loading it."""
        until = time.monotonic() + self._spec.reindex.patience_seconds
        while True:
            found = await self._catalog.index_encoders(self._name)
            mine = next((one for one in found if one.fingerprint == wanted.fingerprint), None)
            if mine is None or mine.state == "required":
                return mine is not None
            if mine.problem is not None or not mine.gateways or time.monotonic() >= until:
                return False
            self._lease.say("waiting for gateways to load the new encoder", 0, 0)
            self._lease.check()
            await asyncio.sleep(_LOOK_S)

    async def _forget_ended(self) -> None:
        """Ledgers of jobs that failed or were cancelled go when the next one begins: what they made is in the catalog."""
        prefix = jobs_prefix(self._name)
        found = {key.removeprefix(prefix).partition("/")[0] async for key in self._around.store.list(prefix)}
        for job_id in found - {str(self._job.job_id)}:
            if await self._ended(job_id):
                await erase_prefix(
                    self._around.store, job_prefix(self._name, job_id), in_time=self._lease.held
                )

    async def _ended(self, job_id: str) -> bool:
        try:
            job = await self._catalog.get_job(self._name, UUID(job_id))
        except (ValueError, ProblemError) as error:
            return isinstance(error, ProblemError) and error.type is ProblemType.NOT_FOUND
        return job.kind == REINDEX and job.ended

    async def _wanted(self) -> IndexRecord:
        """The encoder that the spec names, entered so that gateways take it up where the index has another one."""
        record = await self._catalog.get_index(self._name)
        if record is None:
            detail = f"there is no index {self._name}: create it first"
            raise ProblemError(ProblemType.INDEX_NOT_FOUND, detail)
        fetch = fetching(self._around.resource, self._around.access)
        fingerprint = await asyncio.to_thread(
            fingerprint_of, self._spec.encoder, self._around.cache_dir, fetch
        )
        wanted = IndexRecord(self._name, fingerprint, self._spec.encoder.dimension)
        self._moves = record.fingerprint != fingerprint
        if self._moves:
            settings = encoder_settings(self._spec)
            entered = fingerprint, wanted.dimension, settings
            await self._catalog.enter_encoder(self._name, *entered, fence=self._job.fence, served=False)
        return wanted

    async def _plans_in_force(self, wanted: IndexRecord) -> list[Plan]:
        """Those that can be gone on with: what is missing of others a new plan has."""
        plans = [await self._noted_plan(name) for name in await self._plan_names()]
        return [plan for plan in plans if plan is not None and self._is_for(plan, wanted)]

    async def _noted_plan(self, name: str) -> Plan | None:
        """None where the ledger is gone: of a job that failed, the next one erased it."""
        try:
            return await self._ledger.plan(name)
        except ProblemError as problem:
            if problem.type is not ProblemType.NOT_FOUND:
                raise
            return None

    def _is_for(self, plan: Plan, wanted: IndexRecord) -> bool:
        """Whether it has made what the spec names now: else vectors would be filed under an encoder that is not theirs."""
        kept = self._around.patches
        same_patches = kept is None or kept.features == plan.recipe.features
        return plan.recipe.fingerprint == wanted.fingerprint and same_patches

    async def _plan_names(self) -> list[str]:
        known = await self._patiently(partial(self._catalog.job_ledger, self._job.job_id)) or {}
        return list(known.get("plans", ()))

    async def _plan(self, plans: Sequence[Plan], wanted: IndexRecord) -> Plan | None:
        name = f"{len(plans)}-{self._job.fence.number}"
        self._lease.say(f"planning round {len(plans) + 1}", 0, 0)
        # A plan that the database broke off is not in force: its lists are written again.
        plan = await self._patiently(partial(self._planned_as, name, wanted))
        if plan is not None:
            ledger = {"plans": [*(one.name for one in plans), plan.name]}
            await self._patiently(partial(self._catalog.set_job_ledger, self._job.fence, ledger))
        return plan

    async def _planned_as(self, name: str, wanted: IndexRecord) -> Plan | None:
        async with AsyncExitStack() as stack:
            return await make_plan(
                self._catalog,
                self._ledger,
                self._name,
                self._job.job_id,
                name,
                wanted.fingerprint,
                self._conveyor.choose,
                chunk_images=self._spec.reindex.chunk_images,
                with_patches=await self._finding_patches(stack, wanted),
                say=self._planned,
            )

    def _planned(self, images: int) -> None:
        self._lease.check()
        self._lease.say("planning", images, 0)

    async def _finding_patches(self, stack: AsyncExitStack, wanted: IndexRecord) -> FindPatches | None:
        kept = self._around.patches
        if kept is None:
            return None
        of = wanted.fingerprint, wanted.dimension
        patches = StoredPatches(self._catalog, self._around.store, self._name, *of, kept)
        stored = await stack.enter_async_context(patches)

        async def find(images: Sequence[Lacking]) -> set[UUID]:
            codes = [image.vector or b"" for image in images]
            return await stored.known([image.image_id for image in images], codes, _WHOLE)

        return find

    async def _carry(self, plan: Plan) -> None:
        """Make what is missing of a plan and commit all of it."""
        look = partial(self._catalog.committed_chunks, self._job.job_id, plan.name)
        committed = await self._patiently(look)
        finished = await self._ledger.finished(plan.name) - committed
        pending = [n for n in range(plan.chunks) if n not in committed and n not in finished]
        count = len(committed)
        for chunk in sorted(finished):
            await self._commit(plan, chunk)
            count += 1
            self._say(plan, count)
        if not pending:
            return
        self._say(plan, count)
        async with aclosing(self._conveyor.make(plan, pending)) as made:
            while (one := await self._next(made)) is not None:
                await self._commit(plan, one)
                count += 1
                self._say(plan, count)

    async def _next(self, made: AsyncGenerator[int]) -> int | None:
        """The next chunk, None after the last; it may take long, or wait for machines for ever, and ends with the job."""

        async def following() -> int | None:
            return await anext(made, None)

        waiting = asyncio.create_task(following())
        try:
            while not (await asyncio.wait([waiting], timeout=_LOOK_S))[0]:
                self._lease.check_kept()
            return waiting.result()
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    def _say(self, plan: Plan, chunks: int) -> None:
        self._lease.check()
        images = min(chunks * plan.chunk_images, plan.images)
        self._lease.say(f"encoding, round {int(plan.name.split('-')[0]) + 1}", images, plan.images)

    async def _commit(self, plan: Plan, chunk: int) -> None:
        done = await self._ledger.done(plan.name, chunk)
        of = plan.recipe.fingerprint, plan.recipe.features
        commit = ChunkCommit(plan.name, chunk, *of, done.encoded, done.refused, done.account.to_json())
        committing = partial(self._catalog.commit_chunk, self._name, self._job.fence, commit)
        refused = await self._patiently(committing)
        self._refused += len(refused)
        self._refuse_too_many(refused)

    def _refuse_too_many(self, latest: Sequence[Refused]) -> None:
        """Raises ProblemError CONFLICT beyond the limit, also for a job that is resumed with all of its chunks in."""
        limit = self._spec.reindex.max_quarantined
        if self._refused > limit:
            reasons = "".join(f"{slug}, " for slug in sorted({one.reason for one in latest}))
            detail = (
                f"{self._refused} images of index {self._name} cannot be had ({reasons}…), more than "
                f"spec.reindex.maxQuarantined ({limit}): `visualindex jobs quarantine {self._name}` lists them; repair or "
                "delete them, or raise the limit"
            )
            raise ProblemError(ProblemType.CONFLICT, detail)

    async def _quarantined(self) -> int:
        return await self._patiently(partial(self._catalog.count_quarantined, self._name, self._job.job_id))

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        return await patiently(work, self._spec.reindex.patience_seconds)

    async def _build(self, wanted: IndexRecord) -> Built:
        place, kept = self._around.place, self._around.patches
        return await build_generation(
            self._catalog,
            self._around.store,
            self._around.resource,
            self._around.scratch,
            say=self._lease.say,
            wanted=self._lease.held,
            threads=threads_of(place),
            fence=self._job.fence,
            patches=kept,
            of=wanted,
            builders=builders_of(place, None if kept is None else kept.features, self._lease.held),
        )

    async def _judge(self, generation: str) -> GateReport | None:
        """What the quality gate says of it; copies of stored pictures are encoded as users' pictures are."""
        around = self._around
        cache = NodeCache(around.cache_dir / "generations", generation_cache(around.resource.spec))
        judging = partial(
            judge,
            self._catalog,
            around.store,
            cache,
            around.resource,
            generation,
            fence=self._job.fence,
        )
        if self._spec.reindex.gate.mode == "off":
            return None
        opening = partial(EncoderTools.open, around.resource, around.cache_dir, around.access, threads=1)
        tools = await asyncio.to_thread(opening)
        pool = DecodePool(1, self._spec.limits)
        try:
            await pool.start()
            encode = copies_encoder(self._catalog, around.store, self._name, tools.encoder, pool)
            return await judging(encode=encode, say=self._lease.say, wanted=self._lease.held)
        finally:
            await pool.close()
            tools.encoder.close()

    async def _is_servable(self, wanted: IndexRecord) -> bool:
        """Whether searches can be encoded as its vectors were: with another encoder only once all writes bring them."""
        found = await self._catalog.index_encoders(self._name)
        return not self._moves or any(one.complete for one in found if one.fingerprint == wanted.fingerprint)

    async def _summary(self, built: Built, build_cpu_s: float) -> dict[str, Any]:
        each = await self._patiently(partial(self._catalog.chunk_accounts, self._job.job_id))
        account = sum(
            (Account.of(one) for one in each), Account(cpu_s=build_cpu_s, retries=self._ledger.retries)
        )
        return {
            "generation": built.generation,
            "contents": built.contents,
            "images": built.images,
            "recall": built.recall,
            "met": built.met,
            "rounds": len(await self._plan_names()),
            "encoded": account.encoded,
            "quarantined": await self._quarantined(),
            "bytes_read": account.bytes,
            "cpu_s": round(account.cpu_s, 3),
            "gpu_s": round(account.gpu_s, 3),
            "retries": account.retries,
            "attempts": self._job.fence.number,
            "cost": costs(self._spec.reindex.prices, account, built.bytes),
        }
