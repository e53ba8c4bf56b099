"""What happens to an index that was never served."""

import pytest
from tests.planning.world import GONE, World, kinds, missing, served

NEEDED = ["metadata", "storage", "keys", "migration"]


def test_the_database_is_migrated_before_anything_starts() -> None:
    world = World().add()
    world.depend(migration="absent")
    assert kinds(world.look()) == ["Migrate"]


def test_once_everything_is_there_it_is_served() -> None:
    world = World().add()
    assert served(world.look()) == {"shop": world.members["shop"].spec}


@pytest.mark.parametrize("what", NEEDED)
def test_without_one_of_what_it_needs_nothing_is_served(what: str) -> None:
    world = World().add()
    world.depend(**missing(what))
    assert served(world.look()) == {}
    assert world.status().applied is None


@pytest.mark.parametrize("what", ["metadata", "keys"])
def test_a_database_is_migrated_only_when_it_answers_and_the_keys_are_there(what: str) -> None:
    world = World().add()
    world.depend(migration="absent", **missing(what))
    assert kinds(world.look()) == []


@pytest.mark.parametrize("state", ["running", "failed"])
def test_a_migration_that_runs_or_failed_is_not_begun_again(state: str) -> None:
    world = World().add()
    world.depend(migration=state, migration_message="exit code 1")
    assert kinds(world.look()) == []


def test_a_failed_migration_is_told_with_its_message() -> None:
    world = World().add()
    world.depend(migration="failed", migration_message="exit code 1")
    world.look()
    told = world.condition("MetadataReady")
    assert (told.status, told.reason, told.message) == ("False", "MigrationFailed", "exit code 1")


@pytest.mark.parametrize("what", NEEDED)
def test_the_plan_says_that_it_waits_and_not_that_it_proceeds(what: str) -> None:
    world = World().add()
    world.depend(**missing(what))
    world.look()
    plan = world.status().plan
    assert plan is not None
    assert (plan.change, plan.state) == ("Create", "Pending")
    assert plan.summary[0].startswith("waits for")


def test_the_plan_of_the_first_start_is_told_until_the_cluster_has_settled() -> None:
    world = World().add()
    told = world.look()
    plan = world.status().plan
    assert plan is not None
    assert (plan.change, plan.state) == ("Create", "Proceeding")
    world.look()
    assert world.status().plan == plan
    world.obey(told)
    world.look()
    assert world.status().plan is None


def test_a_first_start_shows_what_it_will_take() -> None:
    world = World().add()
    world.look()
    plan = world.status().plan
    assert plan is not None
    assert plan.before.pods == 0
    assert plan.during == plan.after
    assert plan.after.pods == 3


def test_an_index_that_waits_names_what_is_missing() -> None:
    world = World().add()
    world.depend(storage=GONE)
    world.look()
    assert world.condition("Ready").reason == "DependencyMissing"
    assert world.condition("StorageReady").message == "connection refused"
    assert world.condition("ServingReady").reason == "DependencyMissing"


def test_a_resource_that_is_made_suspended_starts_nothing_and_waits_for_nothing() -> None:
    world = World().add(suspend=True)
    world.depend(metadata=GONE)
    assert served(world.look()) == {}
    assert world.condition("Ready").reason == "Suspended"
    world.look()
    assert world.status().plan is None


def test_a_resource_that_was_made_suspended_still_waits_for_its_database_when_it_resumes() -> None:
    world = World().add(suspend=True)
    world.settle()
    world.depend(metadata=GONE)
    world.edit(suspend=False)
    assert served(world.look()) == {}
    world.depend(migration="absent", metadata=world.seen["shop"].dependencies.storage)
    assert kinds(world.look()) == ["Migrate", "StopServing"]
