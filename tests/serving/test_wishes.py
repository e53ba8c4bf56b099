"""Which generation becomes active when several are asked for: the last one, whenever the shards have it, whoever looks."""

import logging
import time
from collections.abc import AsyncIterator, Collection
from typing import Any

import pytest
import pytest_asyncio

from visualindex.catalog import Catalog, EmbeddedPostgres, Position, migrate
from visualindex.errors import ProblemError, ProblemType
from visualindex_serving.activation import activate, advance, roll_back
from visualindex_serving.pinning import Pinning

from .pictures import fresh_database

NAME = "things"
OLDER, ACTIVE, NEW = "1" * 16, "2" * 16, "3" * 16


class Index:
    """An index of one shard, whose replica says what it has loaded."""

    def __init__(self, dsn: str, catalog: Catalog, position: Position) -> None:
        self.dsn = dsn
        self.catalog = catalog
        self._position = position

    async def propose(self, *generations: str, fingerprint: str = "f") -> None:
        for one in generations:
            await self.catalog.propose_generation(NAME, one, fingerprint, {}, self._position)

    async def loaded(self, *generations: str, problem: str | None = None) -> None:
        beat: dict[str, Any] = {"shards": 1, "generations": generations, "problem": problem}
        await self.catalog.heartbeat(NAME, 0, "replica", self._position, 1, 60, **beat)

    async def states(self) -> dict[str, str]:
        return {one.generation: one.state for one in await self.catalog.list_generations(NAME, ended=True)}


@pytest_asyncio.fixture
async def index(postgres: EmbeddedPostgres) -> AsyncIterator[Index]:
    """OLDER was active before ACTIVE is, and NEW was built since."""
    with fresh_database(postgres) as dsn:
        await migrate(dsn)
        catalog = await Catalog.open(dsn, max_connections=2)
        await catalog.ensure_index(NAME, "f", 8)
        follower = catalog.follow(NAME, "f", range(1024))
        async for _ in follower.load():
            pass
        opened = Index(dsn, catalog, follower.position)
        await opened.propose(OLDER, ACTIVE, NEW)
        await opened.loaded(OLDER, ACTIVE)
        for one in (OLDER, ACTIVE):
            assert (await activate(catalog, NAME, one, 1, 1)).state == "active"
        yield opened
        await catalog.close()


async def maintained(index: Index, pinned: str | None = None, pinning: Pinning | None = None) -> None:
    """What the maintenance of a gateway does every second."""
    if pinned is not None:
        await (pinning or Pinning(index.catalog)).hold(NAME, pinned)
    await advance(index.catalog, NAME, 1)


async def test_a_rollback_takes_the_place_of_what_is_being_prepared(index: Index) -> None:
    await index.catalog.prepare_generation(NAME, NEW)
    began = time.monotonic()
    assert (await roll_back(index.catalog, NAME, 1, 30)).state == "active"
    assert time.monotonic() - began < 1
    await index.loaded(OLDER, ACTIVE, NEW)
    await maintained(index)
    assert await index.states() == {OLDER: "active", ACTIVE: "kept", NEW: "ready"}


async def test_a_rollback_that_shards_are_not_ready_for_comes_about_by_itself(index: Index) -> None:
    """Also through a gateway that was started since: nothing but the database knows of it."""
    await index.loaded(ACTIVE)
    assert (await roll_back(index.catalog, NAME, 1, 0)).state == "preparing"
    again = await roll_back(index.catalog, NAME, 1, 0)
    assert (again.generation, again.state) == (OLDER, "preparing")
    await index.loaded(ACTIVE, OLDER)
    other = await Catalog.open(index.dsn, max_connections=1)
    await advance(other, NAME, 1)
    await other.close()
    assert await index.states() == {OLDER: "active", ACTIVE: "kept", NEW: "ready"}


async def test_searches_stay_pinned_to_a_kept_generation_while_it_is_wanted_again(index: Index) -> None:
    await index.loaded(ACTIVE)
    await roll_back(index.catalog, NAME, 1, 0)
    found = (await index.catalog.searchable_generations([NAME]))[NAME]
    assert [one.generation for one in found] == [ACTIVE, OLDER]


async def test_a_rollback_that_is_taken_back_leaves_what_was_kept(index: Index) -> None:
    await index.loaded(ACTIVE)
    await roll_back(index.catalog, NAME, 1, 0)
    await index.catalog.prepare_generation(NAME, NEW)
    assert await index.states() == {OLDER: "kept", ACTIVE: "active", NEW: "preparing"}


async def test_asking_for_the_active_one_takes_every_other_wish_back(index: Index) -> None:
    await index.catalog.prepare_generation(NAME, NEW)
    assert (await activate(index.catalog, NAME, ACTIVE, 1, 1)).state == "active"
    assert await index.states() == {OLDER: "kept", ACTIVE: "active", NEW: "ready"}


async def test_what_nobody_asks_for_any_more_is_not_activated(index: Index) -> None:
    """A gateway that looked a moment ago comes too late."""
    await index.catalog.prepare_generation(NAME, OLDER)
    await index.catalog.prepare_generation(NAME, NEW)
    with pytest.raises(ProblemError, match="is kept: prepare it first"):
        await index.catalog.activate_generation(NAME, OLDER)


async def test_a_build_that_ends_takes_no_wish_back_for_what_was_active_before(index: Index) -> None:
    """It built again what is kept, which is no reason to go back to that."""
    await index.catalog.prepare_generation(NAME, NEW)
    assert await index.catalog.prepare_generation(NAME, OLDER, same_encoder=True) == "kept"
    assert (await index.states())[NEW] == "preparing"


async def test_one_that_cannot_be_loaded_again_is_kept_and_whoever_asked_is_told(index: Index) -> None:
    await index.loaded(ACTIVE, problem=f"{OLDER}: its file is gone")
    with pytest.raises(ProblemError, match=r"cannot be activated: shard 0, .*its file is gone") as refused:
        await roll_back(index.catalog, NAME, 1, 5)
    assert refused.value.type is ProblemType.CONFLICT
    assert (await index.states())[OLDER] == "kept"


@pytest.mark.parametrize("force", [False, True])
async def test_one_of_an_encoder_that_nobody_serves_is_refused(index: Index, force: bool) -> None:
    other = "4" * 16
    await index.propose(other, fingerprint="g")
    await index.loaded(OLDER, ACTIVE, other)
    with pytest.raises(ProblemError, match=r"encoder g is not served any more.*name that encoder") as refused:
        await activate(index.catalog, NAME, other, 1, 1, force=force)
    assert refused.value.type is ProblemType.CONFLICT
    assert (await index.states())[other] == "ready"


async def test_a_pinned_generation_waits_for_the_shards(index: Index) -> None:
    await index.loaded(ACTIVE)
    await maintained(index, OLDER)
    assert (await index.states())[ACTIVE] == "active"
    await index.loaded(ACTIVE, OLDER)
    await maintained(index, OLDER)
    assert (await index.states())[OLDER] == "active"


async def test_nothing_takes_the_place_of_a_pinned_generation(index: Index) -> None:
    await index.loaded(OLDER, ACTIVE, NEW)
    await index.catalog.prepare_generation(NAME, NEW)
    await maintained(index, ACTIVE)
    assert await index.states() == {OLDER: "kept", ACTIVE: "active", NEW: "ready"}


async def test_a_pinned_generation_that_failed_is_tried_again_later_and_later(
    index: Index,
) -> None:
    now = 1000.0
    pinning = Pinning(index.catalog, lambda: now)
    tried = []
    for _ in range(100):
        await pinning.hold(NAME, NEW)
        if (await index.states())[NEW] == "preparing":
            tried.append(now - 1000)
            await index.catalog.fail_generation(NAME, NEW, "no room")
        now += 1
    assert tried == [0, 11, 31, 71]
    now += 600
    await pinning.hold(NAME, NEW)
    await index.loaded(OLDER, ACTIVE, NEW)
    await maintained(index, NEW, pinning)
    assert (await index.states())[NEW] == "active"


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("missing", "has no generation"),
        ("retired", "is retired: its files are no longer kept"),
        ("failed", "no room"),
        ("foreign", "encoder g is not served any more"),
    ],
)
async def test_a_pinned_generation_that_cannot_be_served_is_said_once(
    index: Index, caplog: pytest.LogCaptureFixture, what: str, said: str
) -> None:
    pinned = "4" * 16
    if what != "missing":
        await index.propose(pinned, fingerprint="g" if what == "foreign" else "f")
    if what == "retired":
        await index.catalog.discard_generation(NAME, pinned)
    if what == "failed":
        await index.catalog.prepare_generation(NAME, pinned)
        await index.catalog.fail_generation(NAME, pinned, "no room")
    pinning = Pinning(index.catalog)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await pinning.hold(NAME, pinned)
    assert (await index.states())[ACTIVE] == "active"
    (line,) = warnings(caplog.messages)
    assert f"names {pinned}" in line
    assert said in line


def warnings(messages: Collection[str]) -> list[str]:
    return [one for one in messages if "spec.generation" in one]
