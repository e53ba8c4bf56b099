"""What the status says of generations: which one is served, how well it finds, and what is to follow it."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.planning.world import BEGINNING, World, served

from visualindex.planning.observations import Generation


def generation(name: str, state: Any, day: int, **fields: Any) -> Generation:
    """One built on that day, with a recall that meets its target but for what is said otherwise."""
    usual = Generation(name, state, BEGINNING + timedelta(days=day), recall=0.962, target=0.95)
    return replace(usual, **fields)


ACTIVE = generation("b" * 16, "active", 2)
OLDER = generation("a" * 16, "kept", 1)


def seen(*generations: Generation) -> World:
    """An index that is served, with these generations."""
    world = World().serving()
    world.see(generations=tuple(sorted(generations, key=lambda one: one.created, reverse=True)))
    world.look()
    return world


def test_the_served_generation_is_told_with_its_recall() -> None:
    told = seen(ACTIVE, OLDER).status().generation
    assert told is not None
    assert (told.id, told.recall, told.created_at, told.next) == (
        ACTIVE.id,
        "0.962",
        "2026-03-03T12:00:00.000000Z",
        None,
    )


def test_recall_is_compared_with_what_was_asked_for() -> None:
    condition = seen(ACTIVE).condition("RecallMet")
    assert (condition.status, condition.reason, condition.message) == (
        "True",
        "TargetMet",
        "0.962 of 0.95 wanted",
    )
    condition = seen(replace(ACTIVE, recall=0.91, met=False)).condition("RecallMet")
    assert (condition.status, condition.reason) == ("False", "TargetMissed")
    assert condition.message.startswith("0.910 of 0.95 wanted: build another generation")


def test_a_recall_that_is_missed_takes_nothing_from_readiness() -> None:
    world = seen(replace(ACTIVE, recall=0.5, met=False))
    assert world.condition("Ready").status == "True"
    assert world.condition("Degraded").status == "False"


def test_without_a_generation_nothing_is_known_of_recall() -> None:
    world = seen()
    condition = world.condition("RecallMet")
    assert (condition.status, condition.reason) == ("Unknown", "NoGeneration")
    told = world.status().generation
    assert told is not None
    assert (told.id, told.created_at) == ("", None)


def test_what_was_seen_last_holds_while_the_database_does_not_tell() -> None:
    world = seen(ACTIVE)
    before = world.status()
    world.see(generations=None)
    world.look()
    assert world.status().generation == before.generation
    assert world.condition("RecallMet") == next(c for c in before.conditions if c.type == "RecallMet")


@pytest.mark.parametrize("state", ["ready", "preparing", "failed"])
def test_a_newer_generation_is_told_as_the_next_one(state: Any) -> None:
    newer = generation("c" * 16, state, 3, problem="shard 0: no room" if state == "failed" else "")
    told = seen(ACTIVE, OLDER, newer).status().generation
    assert told is not None
    assert told.next is not None
    assert (told.id, told.next.id, told.next.state) == (ACTIVE.id, newer.id, state)
    assert told.next.problem == newer.problem


def test_after_a_rollback_the_generation_that_was_left_is_told_with_what_it_holds_up() -> None:
    left = generation("c" * 16, "kept", 3)
    told = seen(ACTIVE, OLDER, left).status().generation
    assert told is not None
    assert told.next is not None
    assert (told.next.id, told.next.state) == (left.id, "kept")
    assert "nothing is folded by itself" in told.next.problem


def test_what_is_older_than_the_served_one_follows_it_only_when_it_is_prepared() -> None:
    for state, follows in (("failed", False), ("ready", False), ("preparing", True)):
        told = seen(ACTIVE, generation("0" * 16, state, 0)).status().generation
        assert told is not None
        assert (told.next is not None) == follows


def test_applying_again_never_changes_which_generation_is_asked_for() -> None:
    """Which one is served is the database's to say: the operator hands out none but a pinned one."""
    world = seen(ACTIVE)
    for _ in range(3):
        world.edit()
        assert served(world.look())["shop"].generation is None
    world.edit(generation=OLDER.id)
    assert served(world.look())["shop"].generation == OLDER.id


@pytest.mark.parametrize(
    ("pinned", "problem"),
    [
        (ACTIVE, ""),
        (replace(OLDER, state="preparing"), ""),
        (replace(OLDER, problem="shard 0: its file is gone"), "not served: shard 0: its file is gone"),
        (generation("c" * 16, "failed", 3, problem="no room"), "not served: no room; it is tried again"),
        (None, "does not have"),
    ],
)
def test_a_pinned_generation_that_is_not_served_is_told(pinned: Generation | None, problem: str) -> None:
    there = [one for one in (ACTIVE, OLDER) if pinned is None or one.id != pinned.id]
    world = World().serving(generation="d" * 16 if pinned is None else pinned.id)
    world.see(generations=(*there, *([] if pinned is None else [pinned])))
    world.look()
    condition = world.condition("Degraded")
    assert (condition.status, condition.reason) == (
        ("True", "PinnedNotServed") if problem else ("False", "AsWanted")
    )
    assert problem in condition.message
