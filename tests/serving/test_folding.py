"""When nothing is folded by itself: somebody has to look at the last attempt first, or it is too early for another."""

import datetime as dt
from typing import Any

import psycopg
import pytest

from visualindex.catalog import BUILD, Catalog, EmbeddedPostgres, GenerationRecord, Position, migrate
from visualindex.identity import buckets_of_shard
from visualindex.spec import VisualIndex
from visualindex_serving.folding import fold_if_due, left_to_people, pause

from .conftest import spec_document
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
