"""`suspend`: everything that runs ends, data stays."""

from tests.planning.world import GONE, World, kinds, served

from visualindex.planning.observations import Serving


def test_a_suspended_index_is_served_no_longer_and_its_cluster_ends() -> None:
    world = World().serving()
    world.edit(suspend=True)
    assert kinds(world.look()) == ["StopServing"]
    assert (world.condition("Ready").status, world.condition("Ready").reason) == ("False", "Suspended")
    assert world.condition("ServingReady").reason == "Suspended"


def test_the_plan_of_a_suspension_is_told_until_nothing_runs() -> None:
    world = World().serving()
    world.edit(suspend=True)
    told = world.look()
    plan = world.status().plan
    assert plan is not None
    assert (plan.change, plan.state) == ("Suspend", "Proceeding")
    assert plan.after.pods == 0
    assert plan.during == plan.before
    world.look()
    assert world.status().plan == plan
    world.obey(told)
    world.look()
    assert world.status().plan is None


def test_suspending_needs_no_database_no_approval_and_no_budget() -> None:
    gpus = {"encoder": {"num_gpus": 1}, "ray": {"gpu_budget": 0, "upgrade": "Recreate"}}
    world = World().serving(change_policy="Approve", **gpus)
    world.depend(metadata=GONE, storage=GONE)
    world.edit(change_policy="Approve", suspend=True, **gpus)
    assert kinds(world.look()) == ["StopServing"]


def test_resuming_serves_again_with_the_present_spec() -> None:
    world = World().serving()
    world.edit(suspend=True)
    world.settle()
    world.edit(limits={"search_limit": 50})
    assert served(world.look())["shop"].limits.search_limit == 50
    plan = world.status().plan
    assert plan is not None
    assert (plan.change, plan.state, plan.before.pods) == ("Resume", "Proceeding", 0)


def test_resuming_waits_for_what_the_index_needs() -> None:
    world = World().serving()
    world.edit(suspend=True)
    world.settle()
    world.depend(metadata=GONE)
    world.edit()
    assert kinds(world.look()) == ["StopServing"]
    plan = world.status().plan
    assert plan is not None
    assert (plan.change, plan.state) == ("Resume", "Pending")


def test_one_suspended_index_leaves_the_others_of_its_cluster_running() -> None:
    world = World().serving("shop").serving("side")
    world.edit("side", suspend=True)
    assert set(served(world.look())) == {"shop"}
    world.settle()
    assert world.status("side").plan is None


def test_an_invalid_spec_of_a_suspended_index_starts_nothing() -> None:
    world = World().serving(suspend=True)
    world.change(spec=None, problem="spec.suspend: not a boolean")
    assert kinds(world.look()) == []
    assert world.condition("Ready").reason == "InvalidSpec"
    assert world.condition("Ready").message == "spec.suspend: not a boolean"


def test_a_suspension_that_the_cluster_refuses_is_not_told_as_done() -> None:
    world = World().serving()
    applied = world.status().applied
    refused = Serving(exists=True, reason="ClusterRefused", message="it says no", answers=None, deployed=True)
    world.see(serving=refused)
    world.edit(suspend=True)
    assert kinds(world.look()) == ["StopServing"]
    assert world.condition("Ready").status == "True"
    assert world.condition("ServingReady").reason == "ClusterRefused"
    world.change(status=world.status().model_copy(update={"applied": applied}))  # as is reported of it
    assert kinds(world.look()) == ["StopServing"]
    assert world.condition("ServingReady").reason == "ClusterRefused"
