"""A candidate answers live searches unseen: an equal one is let in, a worse one is kept out, and searches do not notice."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from visualindex.catalog import SHADOW, Catalog
from visualindex.spec import ShadowSpec, VisualIndex
from visualindex_jobs.lease import Lease
from visualindex_jobs.shadowing import Shadowing

from .conftest import Served, problem, spec_document
from .test_gate import GENERATIONS, activated, built, ended, shown
from .vectors import change_encoder, image_id, shuffle_half, write

LAX = {"agreement": 0, "selfRetrieval": 0, "precisionDrop": 1, "scoreShift": 2, "latencyRatio": 1000}
"""A gate that lets everything pass, so that live searches alone decide."""
TERMS = {"share": 1, "minQueries": 30, "minOverlap": 0.8}
COUNT = 200


def document(**gate: Any) -> dict[str, Any]:
    # Neighbours on this machine may hold a search up for long: what is tested is that the shadow does not.
    return spec_document(reindex={"gate": {**LAX, **gate}}, limits={"searchTimeoutMs": 60_000})


@asynccontextmanager
async def searched(served: Served) -> AsyncIterator[list[dict[str, Any]]]:
    """Searches by the images of the index, one after the other, as long as the block runs; their answers."""
    answers: list[dict[str, Any]] = []

    async def search() -> None:
        for number in forever(COUNT):
            query = {"image_id": str(image_id(number))}
            answer = await served.client.post("/api/search", json={"query": query, "limit": 10})
            assert answer.status_code == 200, answer.text
            answers.append(answer.json())
            await asyncio.sleep(0.01)

    task = asyncio.create_task(search())
    try:
        yield answers
    finally:
        assert not task.done(), task.exception()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(met: Callable[[], Awaitable[bool]]) -> None:
    """Return once it is so."""
    async with asyncio.timeout(60):
        while True:
            if await met():
                return
            await asyncio.sleep(0.05)


async def active(served: Served, generation: str) -> bool:
    return bool((await shown(served, generation))["state"] == "active")


def forever(count: int) -> Iterator[int]:
    while True:
        yield from range(count)


async def first_generation(served: Served) -> str:
    await write(served, range(COUNT))
    result, _ = await built(served)
    generation: str = result["generation"]
    await activated(served, generation)
    return generation


async def test_an_equal_candidate_is_let_in_after_enough_live_searches(serve: Any) -> None:
    async with serve(document(shadow=TERMS)) as served:
        first = await first_generation(served)
        await write(served, range(COUNT, COUNT + 20))
        async with searched(served) as answers:
            result, second = await built(served)
            assert (result["gate"], result["activating"]) == ("passed", True)
            assert (result["shadow"]["ended"], result["shadow"]["overlap"]) == ("enough", 1.0)
            await until(lambda: active(served, second["generation"]))
        report = (await shown(served, second["generation"]))["shadow"]
        assert (report["active"], report["failure"], report["worst"]) == (first, None, [])
        assert report["queries"] >= report["wanted"] == 30
        assert report["score_shift"] == 0.0
        assert report["latency_ms"] > 0 < report["latency_before_ms"]
        assert all(answer["complete"] for answer in answers)


async def test_a_candidate_that_answers_otherwise_is_refused_and_names_the_searches(serve: Any) -> None:
    async with serve(document(shadow=TERMS)) as served:
        first = await first_generation(served)
        await shuffle_half(served)
        async with searched(served) as answers:
            result, worse = await built(served)
        assert (result["gate"], result["activating"]) == ("refused", False)
        assert worse["state"] == "ready"
        assert [failure["measure"] for failure in worse["gate"]["failures"]] == ["shadow"]
        report = worse["shadow"]
        assert report["overlap"] < 0.8
        assert report["failure"] in worse["problem"]
        named = {one["query_id"] for one in report["worst"]}
        assert len(named) == 20 <= report["worst_count"]
        assert named <= {answer["query_id"] for answer in answers}
        assert report["worst"][0]["query_id"] in worse["problem"]
        assert all(one["lost"] for one in report["worst"])
        assert (await shown(served, first))["state"] == "active"
        # Users saw nothing of it.
        assert {answer["generation"] for answer in answers} == {first}
        refused = await served.client.post(f"{GENERATIONS}/{worse['generation']}/activate", json={})
        assert "live searches" in problem(refused, 409, "conflict")["detail"]


async def test_a_candidate_is_shown_by_hand_and_stays_what_it_is(serve: Any) -> None:
    async with serve(document()) as served:
        first = await first_generation(served)
        await shuffle_half(served)
        job = (await served.client.post(GENERATIONS, json={"activate": False})).json()
        candidate = (await ended(served, job))["result"]["generation"]
        path = f"{GENERATIONS}/{candidate}/shadow"
        async with searched(served):
            asked = await served.client.post(path, json={"share": 1, "min_queries": 25})
            assert asked.status_code == 202, asked.text
            other = await served.client.post(path, json={"share": 0.5, "min_queries": 25})
            problem(other, 409, "conflict")
            job = await ended(served, asked.json())
        assert (job["kind"], job["state"], job["result"]["ended"]) == ("shadow", "done", "enough")
        generation = await shown(served, candidate)
        assert generation["shadow"] == job["result"]
        assert generation["shadow"]["failure"]
        assert (generation["state"], generation["problem"], generation["gate"]["verdict"]) == (
            "ready",
            None,
            "passed",
        )
        replica = await served.shards.replica("things", 0)
        await until(lambda: asyncio.sleep(0, candidate not in replica.generations))
        assert replica.generations == [first]


async def test_only_one_that_waits_can_be_shown(serve: Any) -> None:
    async with serve(document()) as served:
        first = await first_generation(served)
        refused = problem(await served.client.post(f"{GENERATIONS}/{first}/shadow", json={}), 409, "conflict")
        assert "is active: only one that is ready" in refused["detail"]


async def shadowed(served: Served, generation: str, for_s: float) -> dict[str, Any]:
    """A shadow that waits no longer than that, as its job reports it."""
    catalog = await Catalog.open(served.dsn, max_connections=1)
    try:
        await catalog.request_job("things", SHADOW, {})
        job = await catalog.claim_job("things", 30)
        assert job is not None
        lease = Lease(catalog, job.fence)
        resource = VisualIndex.model_validate(document())
        terms = ShadowSpec.model_validate(TERMS)
        report = await Shadowing(catalog, resource, generation, terms, job.fence, lease, for_s=for_s).run()
        await catalog.end_job(job.fence, result={})
        return report.model_dump(mode="json")
    finally:
        await catalog.close()


@pytest.fixture
async def waiting(serve: Any) -> AsyncIterator[tuple[Served, str]]:
    """A service, and a candidate that waits."""
    async with serve(document()) as served:
        await first_generation(served)
        await write(served, range(COUNT, COUNT + 20))
        job = (await served.client.post(GENERATIONS, json={"activate": False})).json()
        yield served, (await ended(served, job))["result"]["generation"]


async def test_without_searches_it_ends_with_the_time_and_says_so(waiting: tuple[Served, str]) -> None:
    served, candidate = waiting
    report = await shadowed(served, candidate, for_s=2)
    assert (report["ended"], report["queries"], report["failure"]) == ("time", 0, None)
    assert report["problem"] == "no search came that could be compared"


async def test_an_activation_ends_it(waiting: tuple[Served, str]) -> None:
    served, candidate = waiting
    task = asyncio.create_task(shadowed(served, candidate, for_s=60))
    replica = await served.shards.replica("things", 0)
    await until(lambda: asyncio.sleep(0, candidate in replica.generations))
    await activated(served, candidate)
    report = await task
    assert (report["ended"], report["failure"]) == ("overtaken", None)


async def test_vectors_of_another_encoder_cannot_be_asked(waiting: tuple[Served, str]) -> None:
    served, candidate = waiting
    await change_encoder(served, "another")
    report = await shadowed(served, candidate, for_s=60)
    assert (report["ended"], report["queries"]) == ("impossible", 0)
    assert "cannot be asked what users ask" in report["problem"]


async def test_a_candidate_that_does_not_answer_harms_no_search(waiting: tuple[Served, str]) -> None:
    served, candidate = waiting
    replica = await served.shards.replica("things", 0)
    task = asyncio.create_task(shadowed(served, candidate, for_s=5))
    await until(lambda: asyncio.sleep(0, candidate in replica.generations))
    view = replica._views.pop(candidate)  # as in a replica that has just begun
    try:
        async with searched(served) as answers:
            report = await task
    finally:
        await view.close()
    assert len(answers) > 10
    assert all(answer["complete"] for answer in answers)
    # It was loaded again meanwhile; what a replica without it said is nothing that the candidate did.
    assert (report["ended"] in ("time", "enough"), report["unanswered"]) == (True, 0)
