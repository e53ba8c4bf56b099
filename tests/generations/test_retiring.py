"""Retiring: what others need stays whole at every byte, and nothing else stays."""

import dataclasses
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from tests.generations.conftest import PART, Shards, described, noise
from tests.generations.stores import Fault, Observed, everything
from tests.generations.test_publishing import is_whole

from visualindex.errors import ProblemError, ProblemType
from visualindex.generations import (
    Manifest,
    complete,
    hold,
    let_go,
    list_generations,
    publish_shard,
    retire,
)
from visualindex.objectstore import LocalObjectStore, manifest_key, part_prefix, pending_prefix


async def _two(store: LocalObjectStore, shards: Shards) -> tuple[Manifest, Manifest]:
    """Generations that share all parts but those of one file."""
    old = await shards.publish(store)
    shards.write(1, "vectors.f16", noise(2 * PART, seed=9))
    return old, await shards.publish(store)


async def test_parts_that_a_kept_generation_names_stay(store: LocalObjectStore, shards: Shards) -> None:
    """Only those go that are the retired one's alone: its old vectors, four parts."""
    old, new = await _two(store, shards)
    assert await retire(store, "shop", old.generation, [new.generation]) == 4
    assert await list_generations(store, "shop") == [new.generation]
    assert await is_whole(store, new, shards.root)


async def test_the_last_one_takes_everything_with_it(store: LocalObjectStore, shards: Shards) -> None:
    """No object of any kind is left, nor one of another index gone."""
    await store.put("shop2/generations/parts/aa/other", b"", content_type="text/plain")
    manifest = await shards.publish(store)
    assert await retire(store, "shop", manifest.generation, []) == 12
    assert list(await everything(store)) == ["shop2/generations/parts/aa/other"]


async def test_a_published_generation_that_nobody_asked_to_keep_stays_whole(
    store: LocalObjectStore, shards: Shards
) -> None:
    """One that was published a moment ago may be unknown to whoever retires another."""
    old, new = await _two(store, shards)
    await retire(store, "shop", old.generation, [])
    assert await is_whole(store, new, shards.root)


async def test_a_kept_generation_is_not_retired(store: LocalObjectStore, shards: Shards) -> None:
    """The contradiction is named, and nothing is deleted."""
    old, new = await _two(store, shards)
    before = await everything(store)
    with pytest.raises(ProblemError, match="to be kept: activate another") as caught:
        await retire(store, "shop", old.generation, [old.generation, new.generation])
    assert caught.value.type is ProblemType.INVALID_REQUEST
    assert await everything(store) == before


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_at_any_operation_hurts_no_kept_generation(
    store: LocalObjectStore, shards: Shards, when: str
) -> None:
    """Whatever took effect, the kept one is whole, the other is listed whole or not at all, and a repeat ends it."""
    number, happened = 0, True
    while happened:
        number += 1
        shards.write(1, "vectors.f16", noise(3 * PART, seed=500))
        old = await shards.publish(store)
        shards.write(1, "vectors.f16", noise(2 * PART, seed=501))
        new = await shards.publish(store)
        fault = Fault(number)
        try:
            await retire(Observed(store, **{when: fault}), "shop", old.generation, [new.generation])
        except ProblemError:
            assert fault.happened
        assert await is_whole(store, new, shards.root)
        if old.generation in await list_generations(store, "shop"):
            shards.write(1, "vectors.f16", noise(3 * PART, seed=500))
            assert await is_whole(store, old, shards.root)
        await retire(store, "shop", old.generation, [new.generation])
        assert len([key async for key in store.list(part_prefix("shop"))]) == 10
        happened = fault.happened
    assert number > 5


async def test_an_unreadable_manifest_stops_it_before_any_part_goes(
    store: LocalObjectStore, shards: Shards
) -> None:
    """Nobody knows which parts it names."""
    old, new = await _two(store, shards)
    await store.put(manifest_key("shop", new.generation), b"{}", content_type="application/json")
    before = await everything(store)
    with pytest.raises(ProblemError, match=f"{new.generation}.json: .*damaged"):
        await retire(store, "shop", old.generation, [])
    assert await everything(store) == before


async def test_a_publication_on_its_way_keeps_its_parts(store: LocalObjectStore, shards: Shards) -> None:
    """Retiring others meanwhile takes neither what it uploaded nor what it found there."""
    old = await shards.publish(store)
    shards.write(1, "vectors.f16", noise(2 * PART, seed=9))

    async def retire_old(operation: str, key: str) -> None:
        if operation == "put" and key.startswith(part_prefix("shop")):
            await retire(store, "shop", old.generation, [])

    new = await shards.publish(Observed(store, after=retire_old))
    assert await list_generations(store, "shop") == [new.generation]
    assert await is_whole(store, new, shards.root)


async def test_a_publication_that_ends_while_others_are_retired_keeps_its_parts(
    store: LocalObjectStore, shards: Shards
) -> None:
    """It is pending when that is looked for, or published when that is: there is no moment between the two."""
    old = await shards.publish(store)
    shards.write(1, "vectors.f16", noise(2 * PART, seed=9))
    new = described()
    uploaded = [await publish_shard(store, new, *given) for given in shards.given]
    new = dataclasses.replace(new, shards=tuple(uploaded))
    looks = 0

    async def end(operation: str, _key: str) -> None:
        nonlocal looks
        looks += operation == "list"
        if operation == "list" and looks == 2:
            await complete(store, new)

    await retire(Observed(store, before=end), "shop", old.generation, [])
    assert await list_generations(store, "shop") == [new.generation]
    assert await is_whole(store, new, shards.root)


async def test_a_shard_that_is_let_go_goes_with_the_next_retirement(
    store: LocalObjectStore, shards: Shards
) -> None:
    """Held it stays, whatever else is retired."""
    old = await shards.publish(store)
    shards.write(1, "vectors.f16", noise(2 * PART, seed=9))
    held = await publish_shard(store, described(), *shards.given[1])
    await retire(store, "shop", old.generation, [])
    assert len([key async for key in store.list(part_prefix("shop"))]) == 4
    await let_go(store, described(), [held])
    await retire(store, "shop", old.generation, [])
    assert await everything(store) == {}


async def test_a_shard_that_is_held_again_stays_however_old_it_is(
    store: LocalObjectStore, shards: Shards, tmp_path: Path
) -> None:
    """A build that takes days puts the same bytes again, which has to count."""
    old = await shards.publish(store)
    shards.write(1, "vectors.f16", noise(2 * PART, seed=9))
    held = await publish_shard(store, described(), *shards.given[1])
    _age(tmp_path / "store", days=2)
    await hold(store, described(), held)
    await retire(store, "shop", old.generation, [])
    assert len([key async for key in store.list(part_prefix("shop"))]) == 4


def _age(folder: Path, days: int) -> None:
    """Have all files of a store been put so long ago."""
    then = time.time() - timedelta(days=days).total_seconds()
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


async def test_what_a_crashed_publication_left_goes_after_a_day(
    store: LocalObjectStore, shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be repeated until then; afterwards the next retirement takes it along."""
    old = await shards.publish(store)
    shards.write(1, "vectors.f16", noise(9 * PART, seed=9))
    with pytest.raises(ProblemError):
        await shards.publish(Observed(store, after=Fault(5)))
    assert [key async for key in store.list(pending_prefix("shop"))]
    monkeypatch.setattr("visualindex.generations.retiring._ABANDONED", timedelta(0))
    await retire(store, "shop", old.generation, [])
    assert await everything(store) == {}
