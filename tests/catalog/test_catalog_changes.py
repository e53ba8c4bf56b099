"""The change log hands out everything once it is committed, in whatever order that happens."""

import asyncio
import random
import uuid

import numpy as np
import psycopg
import pytest

from visualindex.catalog import Catalog, EmbeddedPostgres, LogTrimmed, Position, Token
from visualindex.colours import Colour
from visualindex.errors import ProblemError, ProblemType
from visualindex.identity import bucket_of

from .scene import ALL, FINGERPRINT, INDEX, Shard, create_database, image, number_id, truth, vector


async def insert_change(connection: psycopg.AsyncConnection, number: int) -> None:
    """What every write does, inside a transaction that the test holds open."""
    cursor = await connection.execute(
        "INSERT INTO changes (index_name, bucket, image_id, kind) VALUES (%s, %s, %s, 1) RETURNING seq",
        (INDEX, bucket_of(number_id(number)), number_id(number)),
    )
    (seq,) = await cursor.fetchone()  # type: ignore[misc]
    changed = await connection.execute(
        "UPDATE images SET version = %s, metadata = '{\"late\": true}' WHERE image_id = %s",
        (seq, number_id(number)),
    )
    assert changed.rowcount == 1


async def test_a_load_hands_out_every_image_and_later_writes_are_left_to_polls(catalog: Catalog) -> None:
    await catalog.put_images(INDEX, [image(number) for number in range(50)])
    shard = Shard(catalog)
    sizes = []
    async for part in shard.follower.load(batch_rows=7):
        if not sizes:
            await catalog.put_images(INDEX, [image(99)])
        sizes.append(len(part))
        shard._upsert(part)
    assert sum(sizes) == 50
    assert max(sizes) <= 7
    await shard.poll()
    assert shard.rows == await truth(catalog)
    assert number_id(99) in shard.rows


async def test_loaded_columns_belong_together(catalog: Catalog) -> None:
    await catalog.put_images(
        INDEX, [image(number, category=None if number % 2 else f'c"{number}') for number in range(9)]
    )
    async for part in catalog.follow(INDEX, FINGERPRINT, ALL).load():
        for row, image_id in enumerate(part.image_ids):
            number = part.metadata[row]["number"]
            assert image_id == number_id(number)
            assert part.categories[row] == (None if number % 2 else f'c"{number}')
            np.testing.assert_array_equal(part.vectors[row], vector(number).astype(np.float16))
        assert len(part) == 9


async def test_colours_reach_a_shard_by_load_and_by_poll(catalog: Catalog) -> None:
    red, white = Colour(170, 51, 34, 200), Colour(255, 255, 255, 25)
    await catalog.put_images(INDEX, [image(1, colours=(red, white))])
    follower = catalog.follow(INDEX, FINGERPRINT, ALL)
    loaded = [colours async for part in follower.load() for colours in part.colour_lists]
    await catalog.put_images(INDEX, [image(2), image(3, colours=(white,))])
    polled = (await follower.poll()).upserts
    assert loaded == [[list(red), list(white)]]
    by_id = dict(zip(polled.image_ids, polled.colour_lists, strict=True))
    assert by_id == {number_id(2): [], number_id(3): [list(white)]}


async def test_shards_divide_the_images(catalog: Catalog) -> None:
    lower = await Shard(catalog, range(512)).load()
    upper = await Shard(catalog, range(512, 1024)).load()
    await catalog.put_images(INDEX, [image(number) for number in range(40)])
    await lower.poll()
    await upper.poll()
    assert lower.rows
    assert upper.rows
    assert not lower.rows.keys() & upper.rows.keys()
    assert {**lower.rows, **upper.rows} == await truth(catalog)


async def test_a_commit_that_comes_after_a_higher_sequence_is_not_missed(catalog: Catalog, dsn: str) -> None:
    await catalog.put_images(INDEX, [image(1), image(2)])
    shard = await Shard(catalog).load()
    async with await psycopg.AsyncConnection.connect(dsn) as slow:
        await insert_change(slow, 1)
        await catalog.patch_image(INDEX, number_id(2), metadata={"overtook": True})
        early = await shard.poll()
        assert early.upserts.image_ids == [number_id(2)]
        await slow.commit()
    late = await shard.poll()
    assert late.upserts.image_ids == [number_id(1)]
    assert shard.rows == await truth(catalog)
    assert len((await shard.poll()).upserts) == 0


async def test_a_load_beside_an_open_write_leaves_it_to_the_poll(catalog: Catalog, dsn: str) -> None:
    await catalog.put_images(INDEX, [image(1)])
    async with await psycopg.AsyncConnection.connect(dsn) as slow:
        await insert_change(slow, 1)
        shard = await Shard(catalog).load()
        await slow.commit()
    await shard.poll()
    assert shard.rows[number_id(1)][1] == {"late": True}


async def test_a_write_under_a_savepoint_is_seen(catalog: Catalog, dsn: str) -> None:
    """Sub-transactions have ids of their own; the log must carry the outer one, the only one a snapshot lists."""
    await catalog.put_images(INDEX, [image(1)])
    shard = await Shard(catalog).load()
    async with await psycopg.AsyncConnection.connect(dsn) as slow:
        await slow.execute("SELECT pg_current_xact_id()")
        async with slow.transaction():
            await insert_change(slow, 1)
        assert len((await shard.poll()).upserts) == 0
        await slow.commit()
    await shard.poll()
    assert shard.rows[number_id(1)][1] == {"late": True}


async def test_a_rolled_back_write_is_never_handed_out(catalog: Catalog, dsn: str) -> None:
    await catalog.put_images(INDEX, [image(1)])
    shard = await Shard(catalog).load()
    async with await psycopg.AsyncConnection.connect(dsn) as slow:
        await insert_change(slow, 1)
        await shard.poll()
        await slow.rollback()
    assert len((await shard.poll()).upserts) == 0
    assert shard.rows[number_id(1)][1] == {"number": 1}


async def test_an_open_transaction_in_another_database_delays_no_change(
    catalog: Catalog, server: EmbeddedPostgres
) -> None:
    other = create_database(server)
    async with await psycopg.AsyncConnection.connect(other) as foreign:
        await foreign.execute("CREATE TABLE t AS SELECT 'held open'")
        shard = await Shard(catalog).load()
        written = await catalog.put_images(INDEX, [image(1)])
        changes = await shard.poll()
        assert changes.upserts.image_ids == [number_id(1)]
        assert changes.position.covers(written[0].token)
        status = await catalog.log_status(INDEX)
        assert status.backend is not None
        assert status.backend.pid == foreign.info.backend_pid
        assert "held open" in status.backend.query
        assert await catalog.trim_log(INDEX, keep_s=0) == 0
    assert await catalog.trim_log(INDEX, keep_s=0) == 1


async def test_each_image_comes_once_with_its_present_state(catalog: Catalog) -> None:
    shard = await Shard(catalog).load()
    await catalog.put_images(INDEX, [image(1), image(2), image(3, embeddings={(0, "encoder-b"): vector(1)})])
    await catalog.patch_image(INDEX, number_id(1), metadata={"n": 2})
    await catalog.delete_image(INDEX, number_id(2))
    changes = await shard.poll()
    assert changes.upserts.image_ids == [number_id(1)]
    assert changes.upserts.metadata == [{"number": 1, "n": 2}]
    assert set(changes.deleted) == {number_id(2), number_id(3)}
    assert changes.newest_changed_at is not None


async def test_a_poll_stops_at_its_limit_and_goes_on_from_there(catalog: Catalog, dsn: str) -> None:
    await catalog.put_images(INDEX, [image(0)])
    shard = await Shard(catalog).load()
    async with await psycopg.AsyncConnection.connect(dsn) as slow:
        await insert_change(slow, 0)
        tokens = [
            (await catalog.put_images(INDEX, [image(number), image(number + 50)]))[0].token
            for number in range(1, 8)
        ]
        first = await shard.poll(limit=3)
        assert first.more
        assert len(first.upserts) == 4
        assert [first.position.covers(token) for token in tokens] == [True, True] + [False] * 5
        await slow.commit()
    while (await shard.poll(limit=3)).more:
        pass
    assert shard.rows == await truth(catalog)
    assert shard.rows[number_id(0)][1] == {"late": True}
    assert all(shard.follower.position.covers(token) for token in tokens)


async def test_a_storm_of_writers_leaves_a_follower_with_the_truth(catalog: Catalog, dsn: str) -> None:
    """Random writes of few images, some of them held open across polls: in the end the follower has what a load has."""
    shard = await Shard(catalog).load()
    writing = True

    async def write(seed: int) -> None:
        chance = random.Random(seed)
        for turn in range(25):
            numbers = chance.sample(range(20), 4)
            if chance.random() < 0.3:
                await catalog.delete_image(INDEX, number_id(numbers[0]))
            else:
                await catalog.put_images(
                    INDEX, [image(number, metadata={"by": [seed, turn]}) for number in numbers]
                )

    async def hold_open() -> None:
        async with await psycopg.AsyncConnection.connect(dsn) as slow:
            for number in range(100, 110):
                await slow.execute("SELECT pg_current_xact_id()")
                await catalog.put_images(INDEX, [image(number)])
                await insert_change(slow, number)
                await slow.commit()

    async def follow() -> None:
        while writing:
            await shard.poll(limit=5)

    following = asyncio.create_task(follow())
    await asyncio.gather(*(write(seed) for seed in range(5)), hold_open())
    writing = False
    await following
    while (await shard.poll()).more:
        pass
    assert len(shard.rows) > 10
    assert shard.rows == await truth(catalog)


async def test_a_follower_whose_lease_ended_is_told_to_load_again(catalog: Catalog) -> None:
    dead = await Shard(catalog).load()
    await catalog.heartbeat(INDEX, 0, "dead", dead.follower.position, 0, lease_s=0)
    live = await Shard(catalog).load()
    await catalog.put_images(INDEX, [image(1)])
    await live.poll()
    await catalog.heartbeat(INDEX, 0, "live", live.follower.position, 1)
    assert await catalog.trim_log(INDEX, keep_s=0) == 1
    with pytest.raises(LogTrimmed, match="lease had ended"):
        await dead.poll()
    await live.poll()
    await dead.load()
    assert dead.rows == live.rows


async def test_a_live_lease_keeps_what_its_replica_has_not_read(catalog: Catalog) -> None:
    behind = await Shard(catalog).load()
    await catalog.heartbeat(INDEX, 0, "behind", behind.follower.position, 0)
    await catalog.put_images(INDEX, [image(1)])
    assert await catalog.trim_log(INDEX, keep_s=0) == 0
    status = await catalog.log_status(INDEX)
    assert status.rows == 1
    assert status.replica is not None
    assert status.replica.replica == "behind"
    await behind.poll()
    assert number_id(1) in behind.rows
    await catalog.release(INDEX, 0, "behind")
    assert await catalog.trim_log(INDEX, keep_s=0) == 1


async def test_trimming_works_in_limited_batches_and_spares_the_young(catalog: Catalog) -> None:
    await catalog.put_images(INDEX, [image(number) for number in range(10)])
    assert await catalog.trim_log(INDEX) == 0
    assert await catalog.trim_log(INDEX, keep_s=0, limit=4) == 4
    assert await catalog.trim_log(INDEX, keep_s=0, limit=100) == 6


async def test_an_image_is_indexed_when_every_loaded_live_replica_has_applied_it(catalog: Catalog) -> None:
    first, second = await Shard(catalog).load(), await Shard(catalog).load()
    await catalog.put_images(INDEX, [image(1)])
    assert not await catalog.is_indexed(INDEX, number_id(1), 0)
    await first.poll()
    await catalog.heartbeat(INDEX, 0, "first", first.follower.position, 1)
    await catalog.heartbeat(INDEX, 0, "second", second.follower.position, 0)
    assert not await catalog.is_indexed(INDEX, number_id(1), 0)
    await catalog.heartbeat(INDEX, 0, "second", second.follower.position, 0, loading=True)
    assert await catalog.is_indexed(INDEX, number_id(1), 0)
    await second.poll()
    await catalog.heartbeat(INDEX, 0, "second", second.follower.position, 1)
    assert await catalog.is_indexed(INDEX, number_id(1), 0)
    await catalog.patch_image(INDEX, number_id(1), metadata={"n": 2})
    assert not await catalog.is_indexed(INDEX, number_id(1), 0)
    assert [place.replica for place in await catalog.replica_positions(INDEX, 0)] == ["first", "second"]


async def test_a_stored_position_can_be_resumed(catalog: Catalog) -> None:
    stored = str((await Shard(catalog).load()).follower.position)
    await catalog.put_images(INDEX, [image(1)])
    shard = Shard(catalog)
    await shard.follower.resume(Position.parse(stored))
    await shard.poll()
    assert shard.rows == await truth(catalog)


async def test_following_an_unknown_index_names_it(catalog: Catalog) -> None:
    with pytest.raises(ProblemError, match="no index hats") as refusal:
        async for _ in catalog.follow("hats", FINGERPRINT, ALL).load():
            pass
    assert refusal.value.type is ProblemType.INDEX_NOT_FOUND


def test_a_position_covers_what_its_snapshot_sees() -> None:
    position = Position.of_snapshot(7, "10:20:12,15")
    covered = {xid for xid in range(5, 25) if position.covers(Token(7, xid))}
    assert covered == set(range(5, 20)) - {12, 15}
    assert position.covers(Token(6, 99))
    assert not position.covers(Token(8, 1))
    assert Position.parse(str(position)) == position
    assert Token.parse(str(Token(7, 12))) == Token(7, 12)


def test_a_cut_position_covers_nothing_from_the_cut_on() -> None:
    position = Position.of_snapshot(7, "10:20:12,15")
    for xmax in range(5, 25):
        cut = position.cut(xmax)
        for xid in range(3, 25):
            assert cut.covers(Token(7, xid)) == (position.covers(Token(7, xid)) and xid < xmax)


async def test_ids_that_look_alike_in_other_indexes_stay_apart(catalog: Catalog) -> None:
    await catalog.ensure_index("hats", FINGERPRINT, 8)
    shard = await Shard(catalog).load()
    await catalog.put_images("hats", [image(1, image_id=uuid.UUID(int=1))])
    assert len((await shard.poll()).upserts) == 0
