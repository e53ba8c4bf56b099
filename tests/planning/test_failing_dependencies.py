"""What serves goes on as it was when something that it depends on is gone."""

import pytest
from tests.planning.world import GONE, World, kinds, missing, served

from visualindex.planning.plan import GroupPlan, Serve

NEEDED = ["metadata", "storage", "keys", "migration"]


def renewed(told: GroupPlan, name: str = "shop") -> bool:
    """Whether the secrets just checked replace those in use."""
    return next(
        one.renewed
        for action in told.actions
        if isinstance(action, Serve)
        for one in action.served
        if one.name == name
    )


@pytest.mark.parametrize("what", NEEDED)
def test_the_served_index_keeps_its_spec_and_its_credentials(what: str) -> None:
    world = World().serving(limits={"search_limit": 100})
    before = world.members["shop"].spec
    world.depend(**missing(what))
    world.edit(limits={"search_limit": 50})
    told = world.look()
    assert served(told) == {"shop": before}
    assert not renewed(told)


def test_the_change_that_could_not_be_made_is_told_as_pending_and_made_later() -> None:
    world = World().serving()
    world.depend(storage=GONE)
    world.edit(limits={"search_limit": 50})
    world.look()
    plan = world.status().plan
    assert plan is not None
    assert (plan.change, plan.state) == ("InPlace", "Pending")
    world.depend(storage=world.seen["shop"].dependencies.metadata)
    assert served(world.look()) == {"shop": world.members["shop"].spec}


def test_an_index_that_answers_without_its_database_is_ready_and_degraded() -> None:
    world = World().serving()
    world.depend(metadata=GONE)
    world.look()
    assert world.condition("Ready").status == "True"
    degraded = world.condition("Degraded")
    assert (degraded.status, degraded.reason) == ("True", "DependencyMissing")


def test_new_secrets_are_used_once_they_were_checked() -> None:
    world = World().serving()
    world.depend(credentials="second", migration="absent")
    told = world.look()
    assert kinds(told) == ["Migrate", "Serve"]
    assert not renewed(told)
    world.depend(migration="done")
    assert renewed(world.look())


def test_a_change_that_waits_for_approval_does_not_bring_its_own_secrets() -> None:
    one, other = ({"dsn_secret_ref": {"name": name, "key": "dsn"}} for name in ("one", "other"))
    world = World().serving(postgres=one, change_policy="Approve")
    world.edit(postgres=other, change_policy="Approve")
    told = world.look()
    assert served(told)["shop"].postgres == world.members["shop"].spec.postgres.model_validate(one)
    assert not renewed(told)


def test_a_rotated_secret_is_used_while_another_change_waits() -> None:
    world = World().serving(change_policy="Approve")
    world.edit(change_policy="Approve", limits={"search_limit": 50})
    world.depend(credentials="second")
    assert renewed(world.look())


def test_one_index_without_its_database_stops_no_change_of_another() -> None:
    world = World().serving("shop").serving("side")
    world.depend("shop", metadata=GONE)
    world.edit("side", limits={"search_limit": 50})
    told = served(world.look())
    assert told["side"].limits.search_limit == 50
    assert set(told) == {"shop", "side"}


def test_an_index_whose_served_spec_is_forgotten_is_left_alone_until_it_may_be_served_again() -> None:
    world = World().serving("shop").serving("side")
    world.change("shop", status=world.status("shop").model_copy(update={"applied": None}))
    world.depend("shop", storage=GONE)
    world.edit("side", limits={"search_limit": 50})
    assert kinds(world.look()) == []
    applied = world.status("side").applied
    assert applied is not None
    assert applied["limits"]["searchLimit"] == 200
    world.depend("shop", storage=world.seen["side"].dependencies.storage)
    told = served(world.look())
    assert set(told) == {"shop", "side"}
    assert told["side"].limits.search_limit == 50


def test_a_served_spec_that_this_release_cannot_read_counts_as_forgotten() -> None:
    world = World().serving()
    world.change(status=world.status().model_copy(update={"applied": {"fromTheFuture": 1}}))
    world.depend(metadata=GONE)
    assert kinds(world.look()) == []
