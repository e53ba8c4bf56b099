"""The engine's life over a real catalog, object folder and node cache: after every step a search sees what was written.

Stories are drawn by seed. A failure prints the steps that led to it.
"""

import asyncio
import random
import shutil
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import pytest_asyncio
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from visualindex.ann import codes as half
from visualindex.building import build_generation
from visualindex.catalog import Catalog, EmbeddedPostgres, ImageWrite, migrate
from visualindex.errors import ProblemError, ProblemType
from visualindex.generations import NodeCache, retire
from visualindex.identity import content_digest
from visualindex.objectstore import ObjectStore, open_store
from visualindex.spec import VisualIndex
from visualindex_serving import shard as replicas
from visualindex_serving.activation import activate, roll_back
from visualindex_serving.fanout import Fanout
from visualindex_serving.generation_files import GenerationFiles
from visualindex_serving.messages import ShardQuery
from visualindex_serving.shard import ShardReplica

from .conftest import NONE, spec_document
from .pictures import fresh_database

FINGERPRINT = "encoder-a"
DIMENSION = 16
NAME = "things"
POOL = np.random.default_rng(7).standard_normal((64, DIMENSION)).astype(np.float32)
POOL /= np.linalg.norm(POOL, axis=1, keepdims=True)
CODES = half.encode(POOL)


def resource(shards: int, **index: Any) -> VisualIndex:
    about = {"shards": shards, "flatBelow": 24, "pollIntervalMs": 10, "fold": "never", **index}
    return VisualIndex.model_validate(spec_document(NAME, encoder={"dimension": DIMENSION}, index=about))


def image_id(number: int) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_OID, str(number))


Stored = tuple[int, int]
"""Number of the vector, and the `revision` in the metadata."""


@dataclass
class Serving:
    """A replica and what belongs to it alone."""

    replica: ShardReplica
    catalog: Catalog
    store: ObjectStore

    async def close(self) -> None:
        await self.replica.close()
        await self.store.close()
        await self.catalog.close()

    async def crash(self) -> None:
        """End without a word: the lease stays."""
        await self.catalog.close()
        await self.replica.close()
        await self.store.close()


class World:
    """A catalog, generations and the replicas of one layout at a time; `stored` is what must be found."""

    def __init__(self, dsn: str, folder: Path, catalog: Catalog) -> None:
        self.dsn = dsn
        self.folder = folder
        self.catalog = catalog
        self.store = self._open_store()
        self.stored: dict[uuid.UUID, Stored] = {}
        self.revision = 0
        self.shards = 2
        self.serving: list[Serving] = []
        self.backup: tuple[str, dict[uuid.UUID, Stored]] | None = None

    def _open_store(self) -> ObjectStore:
        spec = resource(1).spec.storage
        return open_store(spec, default_folder=self.folder / "objects", credentials=NONE)

    async def start(self, shards: int) -> None:
        self.shards = shards
        self.serving = [await self.replica(number) for number in range(shards)]

    async def replica(self, number: int) -> Serving:
        catalog = await Catalog.open(self.dsn, max_connections=2)
        store = self._open_store()
        files = GenerationFiles(store, NodeCache(self.folder / "cache", 1 << 30))
        opened = ShardReplica(resource(self.shards), number, catalog, files=files)
        await opened.open()
        return Serving(opened, catalog, store)

    async def close(self) -> None:
        for one in self.serving:
            await one.close()
        await self.store.close()
        await self.catalog.close()

    async def put(self, numbers: list[int], chance: random.Random) -> None:
        writes = []
        for number in dict.fromkeys(numbers):
            self.revision += 1
            vector = chance.randrange(len(POOL))
            self.stored[image_id(number)] = vector, self.revision
            writes.append(
                ImageWrite(
                    image_id=image_id(number),
                    content_digest=content_digest(f"{vector}".encode()),
                    media_type="image/jpeg",
                    width=64,
                    height=64,
                    size_bytes=100,
                    embeddings={(0, FINGERPRINT): POOL[vector]},
                    metadata={"revision": self.revision, "even": self.revision % 2 == 0},
                )
            )
        for first in range(0, len(writes), 1000):
            await self.catalog.put_images(NAME, writes[first : first + 1000])

    async def patch(self, chosen: uuid.UUID) -> None:
        self.revision += 1
        self.stored[chosen] = self.stored[chosen][0], self.revision
        about = {"revision": self.revision, "even": self.revision % 2 == 0}
        await self.catalog.patch_image(NAME, chosen, metadata=about)

    async def delete(self, chosen: uuid.UUID) -> None:
        del self.stored[chosen]
        await self.catalog.delete_image(NAME, chosen)

    async def build(self, shards: int) -> str:
        scratch = self.folder / f"building-{uuid.uuid4().hex}"
        return (await build_generation(self.catalog, self.store, resource(shards), scratch)).generation

    async def activate(self, generation: str) -> None:
        record = await activate(self.catalog, NAME, generation, self.shards, 30)
        assert record.state == "active"

    async def states(self) -> dict[str, str]:
        return {one.generation: one.state for one in await self.catalog.list_generations(NAME)}

    async def check(self) -> None:
        """What every loaded generation of every shard gives together is what was written, with its last content."""
        for one in self.serving:
            one.replica.check()
        loaded = {one.generation for one in await self.catalog.loaded_generations(NAME)} or {"live"}
        active = (await self.catalog.active_generations([NAME])).get(NAME, "live")
        await self.eventually(lambda: all(active in one.replica.generations for one in self.serving))
        for generation in sorted({active, *loaded.intersection(*self.generations())}):
            await self.check_generation(generation)

    def generations(self) -> list[list[str]]:
        """What each replica has loaded."""
        return [one.replica.generations for one in self.serving]

    async def check_generation(self, generation: str) -> None:
        for tree in (None, {"eq": {"metadata.even": True}}):
            wanted = {
                key: vector
                for key, (vector, revision) in self.stored.items()
                if tree is None or revision % 2 == 0
            }
            found = await self.search(generation, POOL[0], tree)
            lacking, surplus = wanted.keys() - found.keys(), found.keys() - wanted.keys()
            assert not lacking, f"{generation}: {len(lacking)} lost, such as {min(lacking)}"
            assert not surplus, f"{generation}: {len(surplus)} too many, such as {min(surplus)}"
            scores = np.minimum(half.scores_of(CODES, POOL[0]), np.float32(1))
            old = [key for key, score in found.items() if score != scores[wanted[key]]]
            assert not old, f"{generation}: {len(old)} have other content"

    async def search(self, generation: str, vector: np.ndarray, tree: Any) -> dict[uuid.UUID, float]:
        k = len(self.stored) + 100
        query = ShardQuery(
            vector[None], k, tree, (), time.time() + 30, strong=True, wait_s=30, generation=generation
        )
        found = await Fanout([one.replica.search for one in self.serving]).search(query)
        assert found.complete, found.reports
        assert {report.answer.generation for report in found.reports if report.answer} == {generation}
        count = int(found.hits.counts[0])
        ids = [uuid.UUID(bytes=one.tobytes()) for one in found.hits.ids[0, :count]]
        assert len(set(ids)) == count
        return dict(zip(ids, found.hits.scores[0, :count], strict=True))

    async def eventually(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
                await asyncio.sleep(0.01)

    async def lapse(self) -> None:
        """What crashed long ago holds nothing any more."""
        names = [one.replica.name for one in self.serving]
        await self.execute("UPDATE replicas SET lease_until = now() WHERE replica <> ALL(%s)", names)

    async def execute(self, query: str, *parameters: object) -> None:
        async with await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection:
            await connection.execute(query.encode(), parameters)

    async def back_up(self, server: EmbeddedPostgres) -> None:
        name = conninfo_to_dict(self.dsn)["dbname"]
        if self.backup is not None:
            await self._drop(server, self.backup[0])
        copy = f"{name}_{self.revision}"
        await self._copy(server, str(name), copy)
        self.backup = copy, dict(self.stored)

    async def restore(self, server: EmbeddedPostgres) -> None:
        """The database goes back to the backup beneath everybody, and knows of it by its history."""
        assert self.backup is not None
        copy, self.stored = self.backup
        self.stored = dict(self.stored)
        name = str(conninfo_to_dict(self.dsn)["dbname"])
        marked = make_conninfo(server.dsn, dbname=copy)
        async with await psycopg.AsyncConnection.connect(marked, autocommit=True) as connection:
            await connection.execute("UPDATE meta SET value = '1/00000001/1' WHERE key = 'history'")
        await self._drop(server, name)
        await self._copy(server, copy, name)

    async def _copy(self, server: EmbeddedPostgres, name: str, copy: str) -> None:
        async with await psycopg.AsyncConnection.connect(server.dsn, autocommit=True) as connection:
            await connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
            await connection.execute(
                b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            )
            async with asyncio.timeout(30):
                while True:
                    try:
                        await connection.execute(f"CREATE DATABASE {copy} TEMPLATE {name}".encode())
                    except psycopg.errors.ObjectInUse:
                        continue
                    break
            await connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())

    async def _drop(self, server: EmbeddedPostgres, name: str) -> None:
        async with await psycopg.AsyncConnection.connect(server.dsn, autocommit=True) as connection:
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest_asyncio.fixture
async def world(
    postgres: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    for name, seconds in (("_LOOK_S", 0.02), ("_LINGER_S", 0.1), ("_LOAD_AGAIN_S", 0.1)):
        monkeypatch.setattr(replicas, name, seconds)
    with fresh_database(postgres) as dsn:
        await migrate(dsn)
        catalog = await Catalog.open(dsn, max_connections=4)
        await catalog.ensure_index(NAME, FINGERPRINT, DIMENSION)
        opened = World(dsn, tmp_path, catalog)
        yield opened
        await opened.close()
        if opened.backup is not None:
            await opened._drop(postgres, opened.backup[0])


class Story:
    """Steps, any of which may come next."""

    def __init__(self, world: World, server: EmbeddedPostgres, seed: int) -> None:
        self.world = world
        self.server = server
        self.chance = random.Random(seed)
        self.told: list[str] = []

    async def go(self, steps: int) -> None:
        moves: dict[Callable[[], Coroutine[Any, Any, str]], int] = {
            self.write: 8,
            self.patch: 4,
            self.delete: 4,
            self.build: 5,
            self.activate: 6,
            self.roll_back: 3,
            self.discard: 1,
            self.retire: 2,
            self.restart: 3,
            self.crash: 2,
            self.reshard: 1,
            self.trim: 2,
            self.trim_all: 1,
            self.back_up: 1,
            self.restore: 1,
        }
        for _ in range(steps):
            move = self.chance.choices(list(moves), list(moves.values()))[0]
            self.told.append(await move())
            await self.world.check()

    def any_image(self) -> uuid.UUID | None:
        return self.chance.choice(sorted(self.world.stored)) if self.world.stored else None

    async def write(self) -> str:
        numbers = [self.chance.randrange(200) for _ in range(self.chance.choice([1, 5, 40]))]
        await self.world.put(numbers, self.chance)
        return f"write {numbers}"

    async def patch(self) -> str:
        if (chosen := self.any_image()) is not None:
            await self.world.patch(chosen)
        return f"patch {chosen}"

    async def delete(self) -> str:
        for _ in range(self.chance.choice([1, 10])):
            if (chosen := self.any_image()) is not None:
                await self.world.delete(chosen)
        return "delete"

    async def build(self) -> str:
        return f"build {await self.world.build(self.chance.choice([1, 2, 3]))}"

    async def activate(self) -> str:
        states = await self.world.states()
        ready = [name for name, state in states.items() if state in ("ready", "kept", "failed")]
        if not ready:
            return "nothing to activate"
        chosen = self.chance.choice(ready)
        await self.world.activate(chosen)
        return f"activate {chosen}"

    async def roll_back(self) -> str:
        if "kept" not in (await self.world.states()).values():
            return "nothing to roll back to"
        record = await roll_back(self.world.catalog, NAME, self.world.shards, 30)
        assert record.state == "active"
        return f"roll back to {record.generation}"

    async def discard(self) -> str:
        idle = [n for n, state in (await self.world.states()).items() if state not in ("active", "preparing")]
        if idle:
            await self.world.catalog.discard_generation(NAME, idle[0])
        return f"discard {idle[:1]}"

    async def retire(self) -> str:
        old = await self.world.catalog.retire_generations(NAME, 2)
        for one in self.world.serving:
            await self.world.eventually(lambda one=one: not set(old) & set(one.replica.generations))  # type: ignore[misc]
        gone, kept = await self.world.catalog.retired_generations(NAME, 0)
        for generation in gone:
            await retire(self.world.store, NAME, generation, kept)
            await self.world.catalog.forget_generation(NAME, generation)
        return f"retire {old}, erase {gone}"

    async def restart(self) -> str:
        number = self.chance.randrange(self.world.shards)
        await self.world.serving[number].close()
        self.world.serving[number] = await self.world.replica(number)
        return f"restart {number}"

    async def crash(self) -> str:
        number = self.chance.randrange(self.world.shards)
        await self.world.serving[number].crash()
        if self.chance.random() < 0.5:
            await self.write()  # while it is away
        self.world.serving[number] = await self.world.replica(number)
        await self.world.lapse()
        return f"crash {number}"

    async def reshard(self) -> str:
        before, self.world.serving = self.world.serving, []
        await self.world.start(self.chance.choice([1, 2, 3]))
        for one in before:
            await one.close()
        return f"reshard to {self.world.shards}"

    async def trim(self) -> str:
        return f"trim {await self.world.catalog.trim_log(NAME, keep_s=0)}"

    async def trim_all(self) -> str:
        """As it is when leases and watermarks did not hold the log: those who need it compare row by row."""
        await self.world.execute(
            """WITH gone AS (DELETE FROM changes RETURNING xid)
               UPDATE indexes SET trimmed_through = greatest(trimmed_through, (SELECT max(xid) FROM gone))
               WHERE EXISTS (SELECT FROM gone)"""
        )
        return "trim everything"

    async def back_up(self) -> str:
        await self.world.back_up(self.server)
        return "back up"

    async def restore(self) -> str:
        if self.world.backup is None:
            return "no backup yet"
        await self.world.restore(self.server)
        return "restore"


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_every_generation_finds_what_was_written(
    world: World, postgres: EmbeddedPostgres, seed: int
) -> None:
    story = Story(world, postgres, seed)
    await world.start(2)
    try:
        await story.go(30)
    except BaseException:
        sys.stdout.write("\n".join(story.told))
        raise


async def test_rolling_back_after_ten_thousand_writes_loses_none(world: World) -> None:
    chance = random.Random(1)
    await world.put(list(range(100)), chance)
    await world.start(2)
    first = await world.build(2)
    await world.activate(first)
    second = await world.build(3)
    await world.activate(second)
    await world.put(list(range(10_000)), chance)
    for number in range(0, 300, 3):
        await world.delete(image_id(number))
    record = await roll_back(world.catalog, NAME, world.shards, 30)
    assert (record.generation, record.state) == (first, "active")
    await world.check()


async def test_a_file_that_rotted_in_the_cache_is_fetched_again(world: World) -> None:
    await world.put(list(range(60)), random.Random(2))
    await world.start(2)
    await world.activate(await world.build(2))
    await world.serving[0].close()
    await world.serving[1].close()
    rot(world.folder / "cache" / "files")
    await world.start(2)
    await world.check()
    assert all(load.problem is None for load in await world.catalog.replica_loads(NAME))


async def test_what_cannot_be_fetched_is_served_from_the_rows_of_the_catalog(world: World) -> None:
    await world.put(list(range(60)), random.Random(3))
    await world.start(2)
    generation = await world.build(2)
    await world.activate(generation)
    for one in world.serving:
        await one.close()
    shutil.rmtree(world.folder / "cache")
    (parts,) = (world.folder / "objects").rglob("parts")
    rot(parts)
    await world.start(2)
    await world.check()
    problems = [load.problem or "" for load in await world.catalog.replica_loads(NAME)]
    assert all(problem.startswith(f"{generation}: ") for problem in problems), problems
    await world.put([1, 100], random.Random(4))
    await world.check()


async def test_an_activation_without_the_object_store_fails_with_a_reason_and_works_again(
    world: World,
) -> None:
    await world.put(list(range(60)), random.Random(5))
    await world.start(2)
    first = await world.build(2)
    await world.activate(first)
    await world.put([1], random.Random(6))
    second = await world.build(2)
    objects = world.folder / "objects"
    objects.rename(world.folder / "away")
    with pytest.raises(ProblemError, match=f"{second} .* cannot be activated: shard") as refused:
        await world.activate(second)
    assert refused.value.type is ProblemType.CONFLICT
    assert await world.states() == {first: "active", second: "failed"}
    await world.check()
    shutil.rmtree(objects, ignore_errors=True)
    (world.folder / "away").rename(objects)
    await world.activate(second)
    assert await world.states() == {first: "kept", second: "active"}
    await world.check()


async def test_a_roll_back_that_a_shard_cannot_follow_says_so(world: World) -> None:
    await world.put(list(range(60)), random.Random(7))
    await world.start(2)
    first = await world.build(2)
    await world.activate(first)
    await world.put([1], random.Random(8))
    second = await world.build(2)
    await world.activate(second)
    await world.serving[0].close()
    shutil.rmtree(world.folder / "cache")
    (manifest,) = world.folder.glob(f"objects/**/{first}.json")
    manifest.unlink()
    world.serving[0] = await world.replica(0)
    with pytest.raises(ProblemError, match=f"{first} .* cannot be activated: shard 0"):
        await roll_back(world.catalog, NAME, 2, 20)
    assert await world.states() == {first: "kept", second: "active"}
    await world.check()


async def test_a_generation_that_no_shard_understands_is_given_up(world: World) -> None:
    """Whatever is wrong with it, the shards go on."""
    await world.put(list(range(60)), random.Random(9))
    await world.start(2)
    first = await world.build(2)
    await world.activate(first)
    await world.put([1], random.Random(10))
    second = await world.build(2)
    query = "UPDATE generations SET manifest = manifest - 'dimension' WHERE generation = %s"
    await world.execute(query, second)
    with pytest.raises(ProblemError, match="KeyError: 'dimension'"):
        await world.activate(second)
    assert await world.states() == {first: "active", second: "failed"}
    await world.check()


async def test_a_change_that_no_shard_understands_is_told_until_it_is_mended(world: World) -> None:
    """Shards answer as before, are not started again, and go on from where they were."""
    await world.put(list(range(60)), random.Random(11))
    await world.start(2)
    await world.activate(await world.build(2))
    store = "UPDATE image_embeddings SET vector = %s WHERE image_id = %s"
    await world.execute(store, b"\0", image_id(1))
    await world.patch(image_id(1))
    await problems_told(world, True)
    for one in world.serving:
        one.replica.check()
    vector, _ = world.stored[image_id(1)]
    await world.execute(store, POOL[vector].astype(np.float16).tobytes(), image_id(1))
    await problems_told(world, False)
    await world.check()


async def problems_told(world: World, some: bool) -> None:
    """Until shards say that they have problems, or none."""
    async with asyncio.timeout(30):
        while any(one.problem for one in await world.catalog.replica_loads(NAME)) != some:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_database_restored_to_the_time_before_all_generations_is_served(
    world: World, postgres: EmbeddedPostgres
) -> None:
    """What is loaded belongs to a future that never was, in which versions mean other content."""
    chance = random.Random(9)
    await world.put(list(range(60)), chance)
    await world.start(2)
    await world.back_up(postgres)
    await world.put(list(range(40)), chance)
    await world.activate(await world.build(2))
    await world.restore(postgres)
    await world.put(list(range(40)), chance)
    await world.check()
    await world.activate(await world.build(2))
    await world.check()


def rot(folder: Path) -> None:
    """Flip a byte in the middle of every file."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]
    assert files
    for path in files:
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            (byte,) = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte ^ 0xFF]))
