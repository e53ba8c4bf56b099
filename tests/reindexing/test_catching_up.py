"""What is written while chunks are made is in the generation: in a further round, or with the content it has then."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from tests.serving.pictures import picture

from visualindex.reindexing import Ledger, Plan, Recipe
from visualindex_jobs.reindex import carry_out
from visualindex_jobs.reindex_here import Here

from .collection import NAME, Collection, number_id


class Interrupted:
    """A conveyor that has something happen after each round's first chunk was made and before it is committed."""

    def __init__(self, inner: Here, happens: Callable[[int], Awaitable[None]]) -> None:
        self._inner = inner
        self._happens = happens
        self._rounds = 0

    async def choose(self) -> Recipe:
        return await self._inner.choose()

    async def make(self, plan: Plan, chunks: Sequence[int]) -> AsyncGenerator[int]:
        first = True
        async for chunk in self._inner.make(plan, chunks):
            if first:
                self._rounds += 1
                await self._happens(self._rounds)
                first = False
            yield chunk


async def reindexed(things: Collection, happens: Callable[[int], Awaitable[None]], **spec: object) -> dict:
    around = things.around(**spec)
    job = await things.claimed()
    ledger = Ledger(things.store, NAME, str(job.job_id))
    async with Here(around.resource, ledger, things.cache_dir, threads=1) as here:
        await carry_out(around, job, Interrupted(here, happens))
    ended = await things.catalog.get_job(NAME, job.job_id)
    assert (ended.state, ended.problem) == ("done", None)
    return dict(ended.result or {})


async def test_images_that_come_without_vectors_are_made_in_further_rounds(things: Collection) -> None:
    await things.put(*range(40))

    async def happens(round_: int) -> None:
        if round_ < 3:
            await things.put(*range(100 * round_, 100 * round_ + 5))

    result = await reindexed(things, happens)
    assert (result["rounds"], result["images"], result["encoded"]) == (3, 50, 50)


async def test_rounds_end_although_writers_never_do(things: Collection) -> None:
    await things.put(*range(5))

    async def happens(round_: int) -> None:
        await things.put(100 + round_)

    result = await reindexed(things, happens, reindex={"maxRounds": 3})
    assert (result["rounds"], result["images"]) == (3, 7)


async def test_an_image_that_changed_under_way_gets_no_vector_of_what_it_was(things: Collection) -> None:
    """It was encoded, then replaced, then committed: its vector is made of what it shows now."""
    await things.put(*range(8))

    async def happens(round_: int) -> None:
        if round_ == 1:
            await things.put(3, data=picture(777, (64, 48)))
            await things.catalog.delete_image(NAME, number_id(4))

    result = await reindexed(things, happens)
    assert (result["rounds"], result["images"]) == (2, 7)
    changed = (await things.vectors())[number_id(3)]
    await things.put(900, data=picture(777, (64, 48)))
    await things.reindex()
    assert (await things.vectors())[number_id(900)] == changed
