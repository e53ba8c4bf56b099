"""What a job has built is not built again because the store was away while it was judged."""

import uuid
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from visualindex.ann.graph import Abandoned
from visualindex.catalog import BUILD, JobRecord
from visualindex.errors import ProblemError, ProblemType
from visualindex.gate import compare
from visualindex.generations import NodeCache
from visualindex.objectstore import LocalObjectStore, manifest_prefix
from visualindex_jobs.build import carry_out as build
from visualindex_jobs.reindex import carry_out as reindex

from .collection import LEASE_S, NAME, Collection, resource_of

Run = Callable[[JobRecord], Awaitable[None]]
IMPATIENT = {"patienceSeconds": 1}
ENCODING = "judging: encoding changed copies"


class NotJudging(LocalObjectStore):
    """A store that is away for whoever judges: the first to read a manifest after one was published."""

    away = 0
    published = False

    async def put(self, key: str, data: bytes, *, content_type: str) -> None:
        await super().put(key, data, content_type=content_type)
        self.published |= key.startswith(manifest_prefix(NAME))

    async def get(self, key: str) -> bytes:
        if self.away and self.published and key.startswith(manifest_prefix(NAME)):
            self.away -= 1
            raise ProblemError(ProblemType.UNAVAILABLE, "bucket shop does not answer", retry_after_s=1.0)
        return await super().get(key)


async def begun(things: Collection, kind: str) -> tuple[JobRecord, Run]:
    """A job that is ours, and what carries it out."""
    store = NotJudging(things.root / "objects")
    things.store = store
    await _put(things, kind, *range(20))
    await things.catalog.request_job(NAME, kind, {"activate": True, "attempts": 1000})
    job = await things.catalog.claim_job(NAME, LEASE_S)
    assert job is not None
    around = things.around(reindex=IMPATIENT)
    if kind == BUILD:
        cache = NodeCache(things.root / "generations", 1 << 30)
        folder = things.root / "building"
        return job, partial(_build, things, store, cache=cache, folder=folder)
    return job, partial(reindex, around)


async def _put(things: Collection, kind: str, *numbers: int) -> None:
    """A rebuild makes the vectors itself, and is judged by them."""
    await things.put(*numbers, vectors=kind == BUILD)


async def _build(things: Collection, store: LocalObjectStore, job: JobRecord, **where: object) -> None:
    resource = resource_of(reindex=IMPATIENT)
    await build(things.catalog, store, resource, job, where["folder"], where["cache"])  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["build", "reindex"])
async def test_a_job_that_cannot_judge_keeps_what_it_built_and_goes_on_there(
    things: Collection, kind: str
) -> None:
    job, run = await begun(things, kind)
    store = things.store
    assert isinstance(store, NotJudging)
    store.away = 1_000
    await run(job)
    failed = await things.catalog.get_job(NAME, job.job_id)
    (generation,) = await things.catalog.list_generations(NAME)
    assert (failed.state, generation.state, generation.gate) == ("failed", "ready", None)
    assert failed.problem is not None
    assert f"generation {generation.generation} is built and kept" in failed.problem
    assert "bucket shop does not answer" in failed.problem
    assert f"visualindex jobs resume {NAME} {job.job_id}" in failed.problem

    store.away = 0
    await _put(things, kind, 100)  # a second build would have it
    await things.catalog.resume_job(NAME, job.job_id)
    again = await things.catalog.claim_job(NAME, LEASE_S)
    assert again is not None
    await run(again)
    done = await things.catalog.get_job(NAME, job.job_id)
    assert (done.state, done.problem) == ("done", None)
    assert done.result is not None
    assert (done.result["generation"], done.result["images"]) == (generation.generation, 20)
    assert (done.result["gate"], done.result["activating"]) == ("passed", True)
    (generation,) = await things.catalog.list_generations(NAME)
    assert generation.state == "preparing"


async def test_judging_ends_soon_after_it_is_not_wanted_and_tells_how_far_it_is(things: Collection) -> None:
    """Encoding hundreds of changed pictures takes minutes: a job that was cancelled does not go on with it."""
    job, run = await begun(things, "build")
    await run(job)
    (generation,) = await things.catalog.list_generations(NAME)
    asked: list[int] = []
    said: list[tuple[str, int, int]] = []

    async def encode(images: Sequence[uuid.UUID]) -> dict[uuid.UUID, Any]:
        asked.append(len(images))
        return {image: np.eye(6, 32, dtype=np.float32) for image in images}

    judging = partial(
        compare,
        *(things.catalog, things.store, NodeCache(things.root / "generations", 1 << 30), resource_of()),
        *(generation, None),
        encode=encode,
        say=lambda *told: said.append(told),
    )
    with pytest.raises(Abandoned):
        await judging(wanted=lambda: not asked)
    assert 0 < sum(asked) < 20

    asked.clear()
    said.clear()
    assert (await judging()).probes == 20 == sum(asked)
    told = [done for phase, done, total in said if (phase, total) == (ENCODING, 20)]
    assert told[:1] == [0]
    assert len(told) > 1


async def test_a_short_outage_is_waited_out(things: Collection) -> None:
    job, run = await begun(things, "build")
    assert isinstance(things.store, NotJudging)
    things.store.away = 1
    await run(job)
    done = await things.catalog.get_job(NAME, job.job_id)
    assert (done.state, done.result and done.result["gate"]) == ("done", "passed")


async def test_what_was_discarded_meanwhile_is_built_again(things: Collection) -> None:
    job, run = await begun(things, "build")
    assert isinstance(things.store, NotJudging)
    things.store.away = 1_000
    await run(job)
    (generation,) = await things.catalog.list_generations(NAME)
    await things.catalog.discard_generation(NAME, generation.generation)
    things.store.away = 0
    await things.put(100, vectors=True)
    await things.catalog.resume_job(NAME, job.job_id)
    again = await things.catalog.claim_job(NAME, LEASE_S)
    assert again is not None
    await run(again)
    done = await things.catalog.get_job(NAME, job.job_id)
    assert done.result is not None
    assert (done.state, done.result["images"]) == ("done", 21)
