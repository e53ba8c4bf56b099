"""An erased index is gone whole, and no other index has lost anything, however alike their names are."""

import uuid
from datetime import UTC, datetime
from itertools import repeat

import psycopg

from visualindex.catalog import Catalog, Feedback, Idempotency, SearchLog, Written
from visualindex.catalog.connections import Transaction
from visualindex.scheduling import Schedule

from .scene import ALL, DIMENSION, FINGERPRINT, image

ERASED = "shop"
ALIKE = ("shop-2", "sho", "shop2")
PICTURES = 3
MANY = 2_500
TABLES = {
    "indexes": "index_name",
    "images": "index_name",
    "image_embeddings": "index_name",
    "changes": "index_name",
    "replicas": "index_name",
    "generations": "index_name",
    "index_encoders": "index_name",
    "gateways": "index_name",
    "jobs": "index_name",
    "replica_questions": "index_name",
    "checks": "index_name",
    "missing_originals": "index_name",
    "schedules": "index_name",
    "schedule_runs": "index_name",
    "image_patches": "index_name",
    "erasures": "index_name",
    "idempotency_keys": "split_part(scope, ':', 1)",
    "user_search_logs": "index_name",
    "feedback_events": "index_name",
    "api_keys": "array_to_string(indexes, ' ')",
}


async def fill(catalog: Catalog, index: str) -> None:
    """One row at least in every table."""
    await catalog.enter_encoder(index, FINGERPRINT, DIMENSION, {})
    await catalog.hold_encoders(index, "gateway", FINGERPRINT, [FINGERPRINT], 60)
    request = Idempotency[Written](
        f"{index}:put:caller", "key", bytes(32), lambda written: {"n": len(written)}
    )
    patched = {"patches": {"features": bytes(8)}}
    await catalog.put_images(index, [image(n, **patched) for n in range(PICTURES)], request)
    await catalog.delete_image(index, image(0).image_id)
    await beat(catalog, index)
    query = uuid.uuid4()
    await catalog.log_searches([SearchLog(index, query, [], 1.0, "image")])
    await catalog.add_feedback([Feedback(index, query, image(1).image_id, "click")])
    await catalog.create_key(["search"], name=f"only {index}", indexes=[index])
    await catalog.request_job(index, "check", {})
    await _add_check(catalog, index)
    await catalog.connections.write(lambda transaction: _add_generation(transaction, index))


async def _add_check(catalog: Catalog, index: str) -> None:
    job = await catalog.claim_job(index, 60)
    assert job is not None
    await catalog.ask_replica(index, "replica", "g", "digests", {}, job.fence)
    await catalog.keep_check(index, {}, job.fence)
    await catalog.note_missing_originals(index, 7, {bytes([7]) * 32}, job.fence)
    nightly = Schedule("nightly", "0 3 * * *", "UTC", "check")
    for day in (1, 2):
        await catalog.run_schedule(index, nightly, "check", {}, now=datetime(2026, 3, day, 12, tzinfo=UTC))


async def _add_generation(transaction: Transaction, index: str) -> None:
    await transaction.connection.execute(
        """INSERT INTO generations (index_name, generation, state, manifest, watermark)
           VALUES (%s, 'g', 'active', '{}', pg_current_snapshot())""",
        (index,),
    )


async def beat(catalog: Catalog, index: str, lease_s: float = 60.0, *, loading: bool = False) -> None:
    follower = catalog.follow(index, FINGERPRINT, ALL)
    async for _ in follower.load():
        pass
    await catalog.heartbeat(index, 0, "replica", follower.position, 1, lease_s, loading=loading)


def always() -> bool:
    return True


async def contents(dsn: str) -> dict[tuple[str, str], list[str]]:
    """The rows by table and index."""
    found = dict[tuple[str, str], list[str]]()
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        for table, index in TABLES.items():
            query = f"SELECT {index}, t::text FROM {table} t ORDER BY 2"
            for name, row in await (await connection.execute(query.encode())).fetchall():
                found.setdefault((table, name), []).append(row)
    return found


async def test_every_row_of_the_index_goes_and_none_of_another(catalog: Catalog, dsn: str) -> None:
    for index in (ERASED, *ALIKE):
        await fill(catalog, index)
    before = await contents(dsn)
    assert {table for table, index in before if index == ERASED} == set(TABLES)
    erased = await catalog.erase_index(ERASED, in_time=always)
    assert erased.finished
    assert set(erased.rows.values()) == {1, 2, 4}, erased.rows
    assert (erased.rows["images"], erased.rows["changes"]) == (PICTURES - 1, PICTURES + 1)
    assert await contents(dsn) == {place: rows for place, rows in before.items() if place[1] != ERASED}
    assert await catalog.count_rows(ERASED) == {}


async def test_erasing_again_finds_nothing(catalog: Catalog) -> None:
    await fill(catalog, ERASED)
    await catalog.erase_index(ERASED, in_time=always)
    again = await catalog.erase_index(ERASED, in_time=always)
    assert again.finished
    assert set(again.rows.values()) == {0}


async def test_a_key_for_several_indexes_or_for_all_stays(catalog: Catalog) -> None:
    await fill(catalog, ERASED)
    several, _ = await catalog.create_key(["search"], name="several", indexes=[ERASED, "other"])
    everywhere, _ = await catalog.create_key(["search"], name="everywhere")
    await catalog.erase_index(ERASED, in_time=always)
    assert await catalog.authenticate(several)
    assert await catalog.authenticate(everywhere)
    assert {key.name for key in await catalog.list_keys()} == {"several", "everywhere"}


async def test_it_goes_in_batches_and_on_where_it_was(catalog: Catalog, dsn: str) -> None:
    await fill(catalog, ERASED)
    await add_images(dsn, ERASED, MANY)
    total = MANY + PICTURES - 1
    asked = iter([True] * 8)
    part = await catalog.erase_index(ERASED, in_time=lambda: next(asked, False))
    assert not part.finished
    assert part.rows["images"] == 2_000
    left = await catalog.count_rows(ERASED)
    assert left["images"] == total - 2_000
    assert left["indexes"] == 1
    rest = await catalog.erase_index(ERASED, in_time=always)
    assert rest.finished
    assert rest.rows["images"] == total - 2_000
    assert await catalog.count_rows(ERASED) == {}


async def add_images(dsn: str, index: str, many: int) -> None:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.execute(
            """INSERT INTO images (index_name, image_id, bucket, content_digest, media_type, width, height, size_bytes)
               SELECT %s, gen_random_uuid(), 7, %s, 'image/png', 1, 1, 1 FROM generate_series(1, %s)""",
            (index, bytes(32), many),
        )


async def test_without_time_nothing_goes(catalog: Catalog, dsn: str) -> None:
    await fill(catalog, ERASED)
    before = await contents(dsn)
    never = repeat(False)
    erased = await catalog.erase_index(ERASED, in_time=lambda: next(never))
    assert not erased.finished
    assert await contents(dsn) == before


async def test_live_leases_are_counted_those_of_loading_replicas_too(catalog: Catalog) -> None:
    await catalog.ensure_index(ERASED, FINGERPRINT, DIMENSION)
    await catalog.ensure_index(ALIKE[0], FINGERPRINT, DIMENSION)
    await beat(catalog, ALIKE[0])
    assert await catalog.count_leases(ERASED) == 0
    await beat(catalog, ERASED, loading=True)
    assert await catalog.count_leases(ERASED) == 1
    await beat(catalog, ERASED, lease_s=0)
    assert await catalog.count_leases(ERASED) == 0
