"""What is reported: observations with the time since which they hold."""

from dataclasses import replace
from datetime import timedelta

from tests.planning.world import GONE, SERVES, World, kinds

from visualindex.planning.plan import plan


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    world = World().add()
    world.depend(storage=GONE)
    world.look()
    before = world.condition("StorageReady")
    world.depend(storage=replace(GONE, reason="SecretMissing", message="there is no Secret keys"))
    world.edit(limits={"search_limit": 50})
    world.look()
    after = world.condition("StorageReady")
    assert after.reason == "SecretMissing"
    assert after.observed_generation == before.observed_generation + 1
    assert after.last_transition_time == before.last_transition_time


def test_a_condition_gets_the_present_time_when_its_status_changes() -> None:
    world = World().add()
    world.depend(storage=GONE)
    world.look()
    before = world.condition("StorageReady").last_transition_time
    world.depend(storage=world.seen["shop"].dependencies.metadata)
    world.look()
    assert world.condition("StorageReady").last_transition_time == f"{world.now:%Y-%m-%dT%H:%M:%SZ}" != before


def test_an_unchanged_world_gives_an_equal_status_whenever_it_is_looked_at() -> None:
    world = World().serving("shop", images=7).serving("side", images=None)
    members = list(world.members.values())
    later = plan(members, world.observed(), cluster="shop", now=world.now + timedelta(days=1))
    assert later.statuses == {name: world.status(name) for name in ("shop", "side")}
    assert later.actions == world.look().actions


def test_every_condition_is_there_from_the_first_look_on() -> None:
    world = World().add()
    world.look()
    assert {c.type for c in world.status().conditions} == {
        "Ready",
        "ServingReady",
        "StorageReady",
        "MetadataReady",
        "Degraded",
        "Paused",
        "UpgradeBlocked",
        "ReindexRequired",
        "RecallMet",
        "Consistent",
        "Reindexing",
    }


def test_ready_means_that_a_search_was_answered_and_nothing_else() -> None:
    world = World().serving()
    world.see(serving=replace(SERVES, answers="503 from the proxy"))
    world.look()
    ready = world.condition("Ready")
    assert (ready.status, ready.reason, ready.message) == ("False", "NotAnswering", "503 from the proxy")


def test_applications_that_fail_are_told_with_their_message() -> None:
    world = World().add()
    world.obey(world.look())
    failed = replace(SERVES, running=False, settled=False, failed=True, answers="503", message="no weights")
    world.see(serving=failed)
    world.look()
    told = world.condition("ServingReady")
    assert (told.status, told.reason, told.message) == ("False", "DeployFailed", "no weights")


def test_a_cluster_that_refuses_is_told_with_its_own_reason() -> None:
    world = World().add()
    world.see(serving=replace(SERVES, running=False, answers="503", reason="NameTaken", message="taken"))
    world.look()
    assert world.condition("ServingReady").reason == "NameTaken"


def test_what_was_last_counted_stays_when_nothing_can_be_counted() -> None:
    world = World().serving(images=7)
    world.see(images=None)
    world.look()
    assert world.status().images == 7


def test_the_served_spec_in_the_status_is_read_back_as_it_was() -> None:
    sections = {"index": {"shards": 3, "hnsw": {"m": 8}}, "ray": {"redis": {"address": "valkey:6379"}}}
    world = World().serving(**sections)
    assert kinds(world.look()) == ["Serve"]
    assert world.status().plan is None
