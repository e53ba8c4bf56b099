"""Events: what changed is told once."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.planning.world import BEGINNING, GONE, World

from visualindex.planning.observations import Generation
from visualindex.spec.status import Condition, Plan, Status
from visualindex_operator.announcing import announce

Told = tuple[str, str]


def told(world: World, written: tuple[str, ...] = ()) -> list[Told]:
    """The kinds and reasons of the events of one look."""
    before = world.members["shop"]
    world.look()
    return _announced(before, world.status(), written)


def _announced(before: Any, status: Status, written: tuple[str, ...] = ()) -> list[Told]:
    found: list[Told] = []
    announce(lambda _, kind, reason, __: found.append((kind, str(reason))), {}, before, status, written)
    return found


def test_a_first_start_is_no_warning() -> None:
    world = World().add()
    world.depend(migration="absent")
    assert told(world) == [("Normal", "Planned")]
    world.depend(migration="done")
    assert told(world, ("applied RayService shop",)) == [
        ("Normal", "Planned"),
        ("Normal", "Migrated"),
        ("Normal", "Applied"),
    ]
    world.obey(world.look())
    assert told(world) == [("Normal", "Ready")]


def test_what_stays_as_it_is_is_told_once() -> None:
    world = World().serving()
    assert told(world) == []
    world.depend(storage=GONE)
    assert told(world) == [("Warning", "DependencyFailed")]
    assert told(world) == []


def test_a_child_that_was_mended_is_a_repair() -> None:
    assert told(World().serving(), ("applied NetworkPolicy shop-ray",)) == [("Normal", "Repaired")]


def test_a_change_and_its_writes_are_told() -> None:
    world = World().serving()
    world.edit(limits={"search_limit": 50})
    assert told(world, ("applied RayService shop",)) == [("Normal", "Planned"), ("Normal", "Applied")]


def test_a_failed_migration_is_a_warning_of_its_own() -> None:
    world = World().add()
    world.depend(migration="running")
    world.look()
    world.depend(migration="failed", migration_message="exit code 1")
    assert told(world) == [("Warning", "MigrationFailed")]


def test_a_database_that_is_gone_before_it_was_migrated_is_told() -> None:
    world = World().add()
    world.depend(migration="running")
    world.look()
    world.depend(metadata=GONE)
    assert told(world) == [("Warning", "DependencyFailed")]


def test_suspending_is_no_warning() -> None:
    world = World().serving()
    world.edit(suspend=True)
    assert told(world) == [("Normal", "Suspended"), ("Normal", "Planned")]


@pytest.mark.parametrize(
    ("change", "event"),
    [
        ({"paused": True}, ("Normal", "Paused")),
        ({"spec": None, "problem": "spec.index: no"}, ("Warning", "InvalidSpec")),
    ],
)
def test_what_a_person_did_to_a_resource_is_told(change: dict[str, Any], event: Told) -> None:
    world = World().serving()
    world.change(**change)
    assert told(world) == [event]


def test_the_end_of_a_pause_is_told() -> None:
    world = World().serving()
    world.change(paused=True)
    world.look()
    world.change(paused=False)
    assert told(world) == [("Normal", "Resumed")]


def test_a_change_that_needs_approval_is_a_warning_with_the_plan() -> None:
    world = World().serving(change_policy="Approve")
    world.edit(change_policy="Approve", limits={"search_limit": 50})
    assert told(world) == [("Warning", "UpgradeBlocked"), ("Normal", "Planned")]


def test_another_encoder_is_told_as_what_it_needs() -> None:
    world = World().serving(images=5)
    world.edit(encoder={"dimension": 128})
    assert told(world) == [("Warning", "ReindexRequired"), ("Normal", "Planned")]


def test_long_messages_are_cut_to_what_an_event_holds() -> None:
    before = World().serving().members["shop"]
    found: list[str] = []
    status = Status(
        conditions=[Condition(type="Ready", status="False", reason="NotAnswering", message="x" * 5000)],
        plan=Plan(id="new", change="InPlace", state="Proceeding", summary=["y" * 5000]),
    )
    announce(lambda _, __, ___, message: found.append(message), {}, before, status, ["z" * 5000])
    assert len(found) == 3
    assert all(len(message) <= 1000 for message in found)


OLD = Generation("a" * 16, "active", BEGINNING, recall=0.99, target=0.95)
NEW = Generation("b" * 16, "active", BEGINNING + timedelta(days=1), recall=0.97, target=0.95)


def with_generation(*generations: Generation) -> World:
    """An index that is served, with generations."""
    world = World().serving()
    world.see(generations=generations)
    world.look()
    return world


def test_another_generation_is_told_and_whether_it_is_an_older_one() -> None:
    world = with_generation()
    world.see(generations=(OLD,))
    assert told(world) == [("Normal", "Activated")]
    assert told(world) == []
    world.see(generations=(NEW, replace(OLD, state="kept")))
    assert told(world) == [("Normal", "Activated")]
    world.see(generations=(replace(NEW, state="kept"), OLD))
    assert told(world) == [("Normal", "RolledBack")]


def test_a_generation_that_cannot_be_activated_is_a_warning() -> None:
    world = with_generation(OLD)
    world.see(generations=(replace(NEW, state="preparing"), OLD))
    assert told(world) == []
    world.see(generations=(replace(NEW, state="failed", problem="shard 0: no room"), OLD))
    assert told(world) == [("Warning", "ActivationFailed")]
    assert told(world) == []


def test_a_generation_that_the_quality_gate_refused_is_a_warning() -> None:
    world = with_generation(OLD)
    world.see(generations=(replace(NEW, state="ready"), OLD))
    assert told(world) == []
    world.see(generations=(replace(NEW, state="ready", problem="the quality gate refused it"), OLD))
    assert told(world) == [("Warning", "GenerationRefused")]
    assert told(world) == []


def test_a_served_generation_that_finds_too_little_is_a_warning() -> None:
    world = with_generation(OLD)
    world.see(generations=(replace(NEW, recall=0.9, met=False), replace(OLD, state="kept")))
    assert told(world) == [("Warning", "RecallMissed"), ("Normal", "Activated")]


def test_what_an_operator_sees_of_generations_for_the_first_time_is_no_event() -> None:
    world = World().serving()
    world.see(generations=(OLD,))
    assert told(world) == []
