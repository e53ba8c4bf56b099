"""When the shards are ready for a generation, also while two layouts of them are there."""

import datetime as dt

from visualindex.catalog import ReplicaLoad, everywhere

WANTED = "a" * 16
NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)


def replica(shard: int, shards: int | None, *generations: str) -> ReplicaLoad:
    """A replica that has loaded these."""
    return ReplicaLoad(shard, shards, f"{shard}/{shards}", frozenset(generations), 1, 0, None, None, 0, NOW)


def test_every_shard_has_to_have_it() -> None:
    first, second = replica(0, 2, WANTED), replica(1, 2, WANTED)
    assert everywhere([first, second], WANTED, 2)
    assert not everywhere([first], WANTED, 2)
    assert not everywhere([first, replica(1, 2, "other")], WANTED, 2)


def test_shards_of_another_layout_have_to_have_it_too_because_they_are_asked_for_it_as_well() -> None:
    own = [replica(0, 1, WANTED)]
    assert not everywhere([*own, replica(0, 2, WANTED), replica(1, 2)], WANTED, 1)
    assert everywhere([*own, replica(0, 2, WANTED), replica(1, 2, WANTED)], WANTED, 1)


def test_a_layout_that_is_still_loading_keeps_no_other_from_it() -> None:
    assert everywhere([replica(0, 1, WANTED), replica(0, 2, WANTED)], WANTED, 1)
    assert not everywhere([replica(0, 1, WANTED), replica(0, 2, WANTED)], WANTED, 2)
