"""Changes that wait for a person: by policy, by the GPU budget, or because they are an outage."""

from typing import Any

import pytest
from tests.planning.world import World, kinds, served

from visualindex.spec.status import Plan

_GPU = {"num_gpus": 1, "replicas": 2}


def told(world: World, name: str = "shop") -> Plan:
    """The plan that the status tells."""
    plan = world.status(name).plan
    assert plan is not None
    return plan


def approve(world: World, name: str = "shop") -> None:
    """What `kubectl visualindex approve` does."""
    world.change(name, approved=told(world, name).id)


def asking(**sections: Any) -> World:
    """A served index whose changes want approval, with a change that waits."""
    world = World().serving(change_policy="Approve", **sections)
    world.edit(change_policy="Approve", limits={"search_limit": 50}, **sections)
    world.look()
    return world


def test_under_the_policy_approve_a_change_waits_and_the_old_spec_serves() -> None:
    world = asking()
    assert told(world).state == "Waiting"
    assert served(world.look())["shop"].limits.search_limit == 200
    blocked = world.condition("UpgradeBlocked")
    assert (blocked.status, blocked.reason) == ("True", "ApprovalNeeded")
    assert f"visualindex.dev/approve={told(world).id}" in blocked.message


def test_with_its_id_in_the_annotation_the_change_is_carried_out() -> None:
    world = asking()
    approve(world)
    assert served(world.look())["shop"].limits.search_limit == 50
    assert told(world).state == "Proceeding"
    assert world.condition("UpgradeBlocked").status == "False"


def test_the_approval_of_another_change_does_nothing() -> None:
    world = asking()
    approve(world)
    world.edit(change_policy="Approve", limits={"search_limit": 10})
    assert served(world.look())["shop"].limits.search_limit == 200
    assert told(world).state == "Waiting"


def test_an_approval_that_was_used_is_none_for_the_next_change() -> None:
    world = asking()
    approve(world)
    world.obey(world.look())
    world.edit(change_policy="Approve", limits={"search_limit": 200})
    assert served(world.look())["shop"].limits.search_limit == 50


def test_an_approval_that_was_used_is_none_for_the_same_change_made_again() -> None:
    world = asking()
    approve(world)
    world.obey(world.look())
    world.edit(limits={"search_limit": 200})
    world.settle()
    world.edit(change_policy="Approve", limits={"search_limit": 50})
    assert served(world.look())["shop"].limits.search_limit == 200


def test_a_change_that_is_taken_back_waits_no_longer() -> None:
    world = asking()
    world.edit(change_policy="Approve")
    world.look()
    assert world.status().plan is None
    assert world.condition("UpgradeBlocked").status == "False"


def test_a_policy_that_becomes_automatic_in_the_same_edit_lets_the_change_happen() -> None:
    world = World().serving(change_policy="Approve")
    world.edit(limits={"search_limit": 50})
    assert served(world.look())["shop"].limits.search_limit == 50


def test_the_first_start_needs_no_approval() -> None:
    assert served(World().add(change_policy="Approve").look())


def blocked_by_budget() -> World:
    """Two GPUs in use, two allowed, and a change for which two clusters would take four."""
    world = World().serving(encoder=_GPU, ray={"gpu_budget": 2})
    world.edit(encoder=_GPU, ray={"gpu_budget": 2}, index={"memory_per_shard": 4 * 1024**3})
    world.look()
    return world


def test_a_change_for_which_two_clusters_do_not_fit_the_gpu_budget_is_blocked() -> None:
    world = blocked_by_budget()
    assert (told(world).change, told(world).state) == ("NewCluster", "Blocked")
    assert told(world).during.gpus == 4
    blocked = world.condition("UpgradeBlocked")
    assert (blocked.status, blocked.reason) == ("True", "GpuBudget")
    assert "take 4 GPUs, ray.gpuBudget is 2" in blocked.message
    assert served(world.look())["shop"].index.memory_per_shard == 2 * 1024**3


def test_a_blocked_change_that_is_approved_ends_the_cluster_first() -> None:
    world = blocked_by_budget()
    approve(world)
    ending = world.look()
    assert kinds(ending) == ["EndCluster"]
    assert world.status().applied["index"]["memoryPerShard"] == 2 * 1024**3
    world.obey(ending)
    assert served(world.look())["shop"].index.memory_per_shard == 4 * 1024**3
    world.settle()
    assert world.status().plan is None


def test_until_the_cluster_is_gone_it_is_asked_to_end_and_nothing_else() -> None:
    world = blocked_by_budget()
    approve(world)
    assert [kinds(world.look()) for _ in range(3)] == [["EndCluster"]] * 3


def test_a_raised_budget_lets_a_blocked_change_happen_without_an_outage() -> None:
    world = blocked_by_budget()
    world.edit(encoder=_GPU, ray={"gpu_budget": 4}, index={"memory_per_shard": 4 * 1024**3})
    assert kinds(world.look()) == ["Serve"]


def test_the_budget_stops_no_change_within_the_cluster() -> None:
    world = World().serving(encoder=_GPU, ray={"gpu_budget": 2})
    world.edit(encoder=_GPU, ray={"gpu_budget": 2}, limits={"search_limit": 50})
    assert served(world.look())["shop"].limits.search_limit == 50


def test_recreating_waits_for_approval_whatever_the_policy_is() -> None:
    world = World().serving(ray={"upgrade": "Recreate"})
    world.edit(ray={"upgrade": "Recreate"}, index={"memory_per_shard": 4 * 1024**3})
    world.look()
    assert (told(world).change, told(world).state) == ("Recreate", "Waiting")
    approve(world)
    ending = world.look()
    assert kinds(ending) == ["EndCluster"]
    world.obey(ending)
    assert kinds(world.look()) == ["Serve"]


def test_recreating_holds_only_for_what_needs_other_pods() -> None:
    world = World().serving(ray={"upgrade": "Recreate"})
    world.edit(ray={"upgrade": "Recreate"}, limits={"search_limit": 50})
    assert kinds(world.look()) == ["Serve"]


@pytest.mark.parametrize("upgrade", ["BlueGreen", "Recreate"])
def test_while_suspended_no_change_is_an_outage_or_a_second_cluster(upgrade: str) -> None:
    world = World().serving(suspend=True, ray={"upgrade": upgrade})
    world.edit(suspend=True, ray={"upgrade": upgrade}, index={"memory_per_shard": 4 * 1024**3})
    world.look()
    assert world.status().applied["index"]["memoryPerShard"] == 4 * 1024**3
    world.look()
    assert world.status().plan is None


def test_other_indexes_of_the_cluster_stay_served_while_a_change_waits() -> None:
    world = World().serving("shop", change_policy="Approve").serving("side")
    world.edit("shop", change_policy="Approve", limits={"search_limit": 50})
    world.edit("side", limits={"search_limit": 60})
    found = served(world.look())
    assert {name: one.limits.search_limit for name, one in found.items()} == {"shop": 200, "side": 60}
