"""API keys, search logs and feedback."""

import uuid
from datetime import UTC, datetime, timedelta

import psycopg

from visualindex.catalog import Catalog, Feedback, SearchLog

from .scene import INDEX


async def test_a_key_is_shown_once_and_stored_as_a_digest(catalog: Catalog, dsn: str) -> None:
    plaintext, record = await catalog.create_key(
        ["search", "write"], name="shop", indexes=[INDEX], filter={"category": "boots"}
    )
    assert plaintext.startswith("vi_")
    assert len(plaintext) == 3 + 43
    assert await catalog.authenticate(plaintext) == record
    assert (record.scopes, record.indexes, record.filter) == (
        ("search", "write"),
        (INDEX,),
        {"category": "boots"},
    )
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        (stored,) = await (await connection.execute("SELECT api_keys::text FROM api_keys")).fetchone()  # type: ignore[misc]
    assert plaintext not in stored
    assert plaintext.removeprefix("vi_") not in stored


async def test_unknown_expired_and_revoked_keys_are_refused(catalog: Catalog) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    expired, _ = await catalog.create_key(["search"], name="expired", expires_at=past)
    revoked, record = await catalog.create_key(["search"], name="revoked")
    assert await catalog.revoke_key(record.key_id)
    assert not await catalog.revoke_key(record.key_id)
    for plaintext in (expired, revoked, "vi_" + "A" * 43, "", "vi_", revoked.removeprefix("vi_")):
        assert await catalog.authenticate(plaintext) is None
    assert {key.name for key in await catalog.list_keys()} == {"expired", "revoked"}


async def test_search_logs_are_written_once_and_pruned_by_age(catalog: Catalog, dsn: str) -> None:
    old = datetime.now(UTC) - timedelta(days=91)
    query_id = uuid.uuid4()
    matched = [uuid.uuid4(), uuid.uuid4()]
    searches = [
        SearchLog(INDEX, query_id, matched, 12.5, "image", user_id="u1", filter={"category": "boots"}),
        SearchLog(INDEX, uuid.uuid4(), [], 3.0, "vector", search_time=old),
    ]
    await catalog.log_searches(searches)
    await catalog.log_searches(searches)
    await catalog.add_feedback([Feedback(INDEX, query_id, matched[0], "click", position=0)])
    await catalog.add_feedback([Feedback(INDEX, query_id, matched[0], "click", occurred_at=old)])
    assert await catalog.prune_search_logs("another", 1) == 0
    assert await catalog.prune_search_logs(INDEX, 90) == 2
    assert await catalog.prune_search_logs(INDEX, 90) == 0
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        kept = await (
            await connection.execute("SELECT query_id, matched_ids, took_ms, filter FROM user_search_logs")
        ).fetchall()
    assert kept == [(query_id, matched, 12.5, {"category": "boots"})]


async def test_what_people_found_relevant_is_known_by_the_image_they_searched_with(catalog: Catalog) -> None:
    asked, clicked, bought, refuted, hit = (uuid.uuid4() for _ in range(5))
    by_image, again, by_picture = (uuid.uuid4() for _ in range(3))
    searches = [
        SearchLog(INDEX, by_image, [clicked, bought, refuted], 5.0, "image_id", image_id=asked),
        SearchLog(INDEX, again, [clicked, refuted], 5.0, "image_id", image_id=asked),
        SearchLog(INDEX, by_picture, [hit], 5.0, "image"),
    ]
    await catalog.log_searches(searches)
    events = [
        Feedback(INDEX, by_image, clicked, "click"),
        Feedback(INDEX, by_image, hit, "view"),
        Feedback(INDEX, by_image, asked, "click"),
        Feedback(INDEX, again, bought, "purchase"),
        Feedback(INDEX, by_image, refuted, "click"),
        Feedback(INDEX, again, refuted, "irrelevant"),
        Feedback(INDEX, by_picture, hit, "relevant"),
    ]
    await catalog.add_feedback(events)
    assert await catalog.judgments(INDEX, 10) == {asked: {clicked, bought}}
    assert await catalog.judgments("another", 10) == {}
