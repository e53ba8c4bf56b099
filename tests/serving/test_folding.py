"""When a generation is due, and when nothing is folded by itself: people look first, or another attempt is too early."""

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from visualindex.catalog import (
    BUILD,
    Catalog,
    EmbeddedPostgres,
    GenerationRecord,
    Position,
    ReplicaLoad,
    migrate,
)
from visualindex.identity import buckets_of_shard
from visualindex.spec import VisualIndex
from visualindex_serving import folding
from visualindex_serving.folding import due, fold_if_due, left_to_people, mostly_dead, pause

from .conftest import spec_document
from .generated import NAME, generated, image_id
from .pictures import fresh_database

JUDGED = {"verdict": "refused"}


def record(state: Any, gate: dict[str, str] | None) -> GenerationRecord:
    now = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
    nowhere = Position.of_snapshot(0, "1:1:")
    return GenerationRecord("things", "a" * 16, state, "f", {}, nowhere, now, None, None, gate)


@pytest.mark.parametrize(
    ("state", "gate", "mode", "left"),
    [
        ("ready", JUDGED, "enforce", True),
        ("ready", None, "enforce", False),
        ("ready", None, "off", True),
        ("preparing", None, "enforce", True),
        ("failed", JUDGED, "enforce", True),
        ("failed", {"verdict": "passed"}, "enforce", False),
        ("failed", None, "off", False),
        ("active", JUDGED, "enforce", False),
    ],
)
def test_a_generation_that_was_judged_and_not_activated_is_left_to_people(
    state: str, gate: dict[str, str] | None, mode: str, left: bool
) -> None:
    resource = VisualIndex.model_validate(spec_document(reindex={"gate": {"mode": mode}}))
    assert left_to_people(resource, record(state, gate)) is left


def test_each_attempt_in_vain_doubles_the_pause_up_to_half_a_day() -> None:
    minutes = [pause(attempts).total_seconds() / 60 for attempts in (1, 2, 3, 7, 100)]
    assert minutes == [10, 20, 40, 640, 720]


async def test_what_shards_could_not_load_is_built_anew_after_a_pause(postgres: EmbeddedPostgres) -> None:
    """The object store was away for a moment: nobody has to act for fresh rows to be folded in again."""
    resource = VisualIndex.model_validate(spec_document(index={"flatBelow": 10}))
    name, failed = resource.name, "a" * 16
    with fresh_database(postgres) as dsn:
        await migrate(dsn)
        catalog = await Catalog.open(dsn)
        try:
            await catalog.ensure_index(name, "encoder-a", 8)
            follower = catalog.follow(name, "encoder-a", buckets_of_shard(0, 1))
            assert [rows async for rows in follower.load(10) if len(rows)] == []
            position = follower.position
            await catalog.propose_generation(name, failed, "encoder-a", {}, position)
            await catalog.prepare_generation(name, failed)
            assert await catalog.fail_generation(name, failed, "the object store is away")
            await catalog.heartbeat(name, 0, "replica", position, 100, 60, shards=1, fresh_rows=100)
            await fold_if_due(catalog, resource)
            assert await catalog.list_jobs(name) == []
            with psycopg.connect(dsn) as connection:
                connection.execute("UPDATE generations SET created_at = created_at - interval '11 minutes'")
            await fold_if_due(catalog, resource)
            assert [job.kind for job in await catalog.list_jobs(name)] == [BUILD]
            assert await catalog.list_generations(name) == []
        finally:
            await catalog.close()


NOW = dt.datetime(2026, 11, 1, 12, tzinfo=dt.UTC)
TWO = VisualIndex.model_validate(spec_document(index={"shards": 2, "flatBelow": 100}))


def load(shard: int, rows: int, fresh: int = 0, at: dt.datetime = NOW) -> ReplicaLoad:
    return ReplicaLoad(shard, 2, f"r{shard}", frozenset(), rows, fresh, None, None, 0, at)


def active(*images: int) -> GenerationRecord:
    manifest = {"shards": [{"images": count} for count in images]}
    made = replace(record("active", None), manifest=manifest)
    return replace(made, activated_at=NOW - dt.timedelta(minutes=1))


def test_a_fifth_of_fresh_rows_is_worth_a_generation() -> None:
    assert due(TWO, [load(0, 1000, 201), load(1, 1000)])
    assert not due(TWO, [load(0, 1000, 200), load(1, 1000)])
    assert not due(TWO, [load(0, 300, 100), load(1, 300)]), "so few are scanned anyway"


def test_a_fifth_of_dead_rows_is_worth_a_generation() -> None:
    built = active(5000, 5000)
    assert mostly_dead(TWO, [load(0, 3000), load(1, 4900)], built)
    assert mostly_dead(TWO, [load(0, 5000, 1000), load(1, 5000, 1001)], built), "replaced ones are as dead"
    assert not mostly_dead(TWO, [load(0, 4000), load(1, 4000)], built)
    assert not mostly_dead(TWO, [load(0, 10), load(1, 10)], active(100, 100)), "so few are scanned anyway"


def test_dead_rows_are_not_counted_before_every_replica_has_told_of_the_generation() -> None:
    built = active(5000, 5000)
    assert not mostly_dead(TWO, [load(0, 100)], built), "the other shard holds some, too"
    early = NOW - dt.timedelta(minutes=1)
    assert not mostly_dead(TWO, [load(0, 100), load(1, 100, at=early)], built)


async def test_deletions_and_a_long_log_bring_a_generation(
    postgres: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "_SETTLED_AFTER", dt.timedelta(0))
    async with generated(postgres, tmp_path, shards=1, flatBelow=10) as things:
        catalog = things.catalog

        async def told(rows: int, fresh: int) -> list[str]:
            """Why builds were asked for, once the one replica has told what it holds."""
            at = await things.position()
            await catalog.heartbeat(NAME, 0, "r", at, rows, shards=1, fresh_rows=fresh)
            await fold_if_due(catalog, things.resource)
            asked = [job for job in await catalog.list_jobs(NAME) if job.state == "queued"]
            for job in asked:
                await catalog.cancel_job(NAME, job.job_id)
            return [job.parameters["reason"] for job in asked if job.kind == BUILD]

        await things.put(range(60))
        assert await told(60, 0) == [], "nothing was built yet"
        await things.activated()
        assert await told(60, 0) == []
        for number in range(15):
            await catalog.delete_image(NAME, image_id(number))
        assert await told(45, 0) == ["dead rows"]
        await things.activated()
        assert await told(45, 0) == [], "the log up to the generation does not count"
        for _ in range(11):
            await catalog.patch_image(NAME, image_id(40), category="chairs")
        assert await told(45, 1) == ["length of the change log"]
        await things.activated()
        assert await told(45, 0) == []
