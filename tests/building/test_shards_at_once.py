"""Shards are built one by one or several at once, and the generation is the same, in less room."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.generations.stores import Observed
from tests.reindexing.collection import NAME

from visualindex.building import ShardBuilder, ShardBuilt, Task
from visualindex.capacity.coefficients import Coefficients
from visualindex.errors import ProblemError, ProblemType
from visualindex.objectstore import manifest_key, part_prefix
from visualindex.spec import Spec

from .filled import Filled, named_in, resource


class Backwards:
    """The last shard first."""

    def __init__(self, filled: Filled) -> None:
        self._filled = filled

    async def afford(
        self, spec: Spec, dimension: int, images: int, measured: Coefficients
    ) -> tuple[int, int]:
        return 1, 1

    async def build(self, task: Task, at_once: int, done: Callable[[ShardBuilt], None]) -> None:
        builder = ShardBuilder(self._filled.catalog, self._filled.store, task)
        for shard in reversed(range(task.shards)):
            done(await builder.build(shard, self._filled.root / "backwards"))


@pytest.mark.parametrize("family", ["hnsw", "hnsw-sq8", "ivf-sq8", "ivf-pq", "rabitq"])
async def test_equal_images_give_equal_files_whatever_the_order_and_however_many_at_once(
    filled: Filled, family: str
) -> None:
    alone = await filled.build(resource(1, family=family))
    assert alone.images == 400
    orders = {
        "two at once": await filled.build(resource(2, family=family)),
        "all at once, with two threads each": await filled.build(resource(4, family=family), threads=8),
        "backwards": await filled.build(resource(family=family), builders=Backwards(filled)),
    }
    assert {name: one.contents for name, one in orders.items()} == dict.fromkeys(orders, alone.contents)
    manifests = [await filled.manifest(one.generation) for one in orders.values()]
    assert len({str(one.parameters) for one in manifests}) == 1
    assert await filled.pending() == set()


async def test_a_shard_is_uploaded_and_its_files_are_gone_before_the_next_one_begins(filled: Filled) -> None:
    there: list[set[str]] = []

    async def look(operation: str, key: str) -> None:
        if operation == "put" and key.startswith(part_prefix(NAME)):
            there.append({path.name for path in (filled.root / "scratch").iterdir()})

    await filled.build(resource(1), store=Observed(filled.store, before=look))
    assert {name for names in there for name in names} == {f"shard-{number}" for number in range(4)}
    assert {len(names) for names in there} == {1}
    assert not (filled.root / "scratch").exists()


async def test_no_more_shards_are_at_work_than_there_are_builders(filled: Filled) -> None:
    most = 0

    async def look(_operation: str, _key: str) -> None:
        nonlocal most
        scratch = filled.root / "scratch"
        most = max(most, len(list(scratch.iterdir())) if scratch.exists() else 0)

    await filled.build(resource(3, shards=8), store=Observed(filled.store, before=look))
    assert 1 < most <= 3


async def test_progress_counts_the_shards_that_are_done(filled: Filled) -> None:
    told: list[tuple[str, int, int]] = []
    await filled.build(resource(2), say=lambda *what: told.append(what))
    assert told == [*(("building", done, 4) for done in range(5)), ("publishing", 0, 1), ("built", 1, 1)]
    told.clear()
    await filled.build(resource(1), say=lambda *what: told.append(what))
    assert "reading shard 3" in {phase for phase, _, _ in told}
    assert [what for what in told if what[0] == "building"] == [("building", done, 4) for done in range(5)]


async def test_what_ends_one_shard_ends_the_build_and_leaves_nothing_held(filled: Filled) -> None:
    uploads = 0

    async def fail(operation: str, key: str) -> None:
        nonlocal uploads
        if operation == "put" and key.startswith(part_prefix(NAME)):
            uploads += 1
            if uploads > 20:
                raise ProblemError(ProblemType.UNAVAILABLE, "the store is gone")

    with pytest.raises(ProblemError, match="the store is gone"):
        await filled.build(resource(2), store=Observed(filled.store, before=fail))
    assert await filled.catalog.list_generations(NAME) == []
    assert not (filled.root / "scratch").exists()
    assert len(await filled.pending()) <= 2, "only shards whose upload was under way may wait for a day"


async def test_a_part_that_went_lost_meanwhile_keeps_the_generation_from_being_published(
    filled: Filled,
) -> None:
    first = await filled.build(resource(1))
    (part, *_) = sorted(named_in(await filled.manifest(first.generation)))

    def lose(phase: str, done: int, _total: int) -> None:
        if (phase, done) == ("building", 4):
            (path,) = Path(filled.root).rglob(part.rpartition("/")[2])
            path.unlink()

    with pytest.raises(ProblemError, match="went lost while the generation was built: build it again"):
        await filled.build(resource(1), say=lose)
    again = await filled.build(resource(1))
    assert again.contents == first.contents
    assert await filled.store.stat(manifest_key(NAME, again.generation)) is not None
