"""Indexes that share a Ray cluster."""

from datetime import timedelta

import pytest
from tests.planning.world import BEGINNING, GONE, SERVES, World, kinds, served

from visualindex.planning.plan import GroupPlan, Serve


def _routes(told: GroupPlan) -> dict[str, str]:
    return {
        one.name: one.route_prefix
        for action in told.actions
        if isinstance(action, Serve)
        for one in action.served
    }


def _two(**sections: object) -> World:
    return World().serving("shop").serving("side", **sections)


def test_the_index_with_the_clusters_name_answers_at_the_root_and_others_under_their_names() -> None:
    assert _routes(_two().look()) == {"shop": "/", "side": "/side"}


def test_on_a_cluster_of_nobodys_name_each_answers_under_its_own() -> None:
    world = World("http://ray:8265").add("shop").add("side")
    assert _routes(world.look()) == {"shop": "/shop", "side": "/side"}


def test_the_endpoint_in_the_status_is_where_the_index_answers() -> None:
    world = _two()
    endpoints = {name: world.status(name).endpoints for name in ("shop", "side")}
    assert {name: one and one.search for name, one in endpoints.items()} == {
        "shop": "http://shop-serve-svc:8000",
        "side": "http://shop-serve-svc:8000/side",
    }


def test_the_cluster_is_as_its_oldest_index_states_it() -> None:
    world = World().add("shop", ray={"workers": {"layout": "ByRole"}}).add("side")
    [serve] = [action for action in world.look().actions if isinstance(action, Serve)]
    assert {group.name for group in serve.shape.groups} == {"gateway", "shard"}
    world.change("shop", created=BEGINNING + timedelta(days=1))
    [serve] = [action for action in world.look().actions if isinstance(action, Serve)]
    assert {group.name for group in serve.shape.groups} == {"worker"}


def test_of_two_made_in_the_same_second_the_first_by_name_leads() -> None:
    world = World().add("b", ray={"workers": {"layout": "ByRole"}}).add("a")
    for name in "ab":
        world.change(name, created=BEGINNING)
    [serve] = [action for action in world.look().actions if isinstance(action, Serve)]
    assert [one.name for one in serve.served] == ["a", "b"]
    assert {group.name for group in serve.shape.groups} == {"worker"}


def test_an_index_that_states_other_settings_of_the_cluster_is_told_that_they_do_not_count() -> None:
    world = _two(ray={"workers": {"replicas": 7}, "cache": {"size": 1024**3}})
    degraded = world.condition("Degraded", "side")
    assert (degraded.status, degraded.reason) == ("True", "SettingsDiffer")
    assert "as shop states it" in degraded.message
    assert "ray.cache, ray.workers of this resource" in degraded.message
    assert world.condition("Degraded", "shop").status == "False"


@pytest.mark.parametrize("ray", [{}, {"cluster": "shop"}, {"upgrade": "Recreate", "gpu_budget": 4}])
def test_an_index_that_states_nothing_of_the_cluster_differs_in_nothing(ray: dict[str, object]) -> None:
    world = World().serving("shop", ray={"workers": {"replicas": 3}}).serving("side", ray=ray)
    assert world.condition("Degraded", "side").status == "False"


def test_while_the_oldest_is_not_served_the_next_one_leads() -> None:
    world = World().serving("shop", ray={"workers": {"replicas": 7}}, suspend=True)
    world.serving("side", ray={"workers": {"replicas": 3}})
    assert world.condition("Degraded", "side").status == "False"


def test_a_paused_index_is_served_as_it_was_while_another_changes() -> None:
    world = _two()
    world.change("shop", paused=True)
    for name in ("shop", "side"):
        world.edit(name, limits={"search_limit": 50})
    found = served(world.look())
    assert {name: one.limits.search_limit for name, one in found.items()} == {"shop": 200, "side": 50}
    assert world.condition("Paused", "shop").status == "True"
    assert world.condition("Paused", "side").status == "False"


def test_where_all_indexes_are_paused_nothing_is_done() -> None:
    world = _two()
    for name in ("shop", "side"):
        world.change(name, paused=True)
        world.edit(name, suspend=True)
    assert kinds(world.look()) == []


def test_an_index_that_is_paused_before_its_first_start_waits() -> None:
    world = World().serving("shop").add("side")
    world.change("side", paused=True)
    assert set(served(world.look())) == {"shop"}


@pytest.mark.parametrize("name", ["shop", "side"])
def test_an_index_whose_spec_became_invalid_is_served_on_beside_the_others(name: str) -> None:
    world = _two()
    world.change(name, spec=None, problem="spec.index.shards: too many")
    assert set(served(world.look())) == {"shop", "side"}
    assert world.condition("Ready", name).reason == "InvalidSpec"
    other = {"shop": "side", "side": "shop"}[name]
    assert world.condition("Ready", other).status == "True"


def test_an_index_that_was_never_valid_keeps_no_other_from_starting() -> None:
    world = World().add("shop").add("side")
    world.change("shop", spec=None, problem="spec.index.shards: too many")
    assert set(served(world.look())) == {"side"}


def test_an_index_that_waits_for_its_first_start_keeps_no_other_from_being_served() -> None:
    world = World().serving("shop").add("side")
    world.depend("side", storage=GONE)
    assert set(served(world.look())) == {"shop"}


def test_an_index_that_is_deleted_leaves_the_others_served() -> None:
    world = _two()
    world.change("shop", deleting=True)
    told = world.look()
    assert _routes(told) == {"side": "/side"}
    assert set(told.statuses) == {"side"}


def test_when_the_only_index_is_deleted_its_cluster_ends() -> None:
    world = World().serving("shop")
    world.change("shop", deleting=True)
    assert kinds(world.look()) == ["StopServing"]


def test_what_is_left_of_an_index_that_may_not_start_is_ended() -> None:
    world = World().serving("shop").add("side")
    world.depend("side", storage=GONE)
    world.change("shop", deleting=True)
    assert kinds(world.look()) == ["StopServing"]


def test_an_approved_recreation_of_one_postpones_the_changes_of_the_others() -> None:
    world = World().serving("shop", ray={"upgrade": "Recreate"}).serving("side")
    world.edit("shop", ray={"upgrade": "Recreate"}, index={"memory_per_shard": 4 * 1024**3})
    world.look()
    plan = world.status("shop").plan
    assert plan is not None
    world.change("shop", approved=plan.id)
    world.edit("side", limits={"search_limit": 50})
    ending = world.look()
    assert kinds(ending) == ["EndCluster"]
    world.obey(ending)
    found = served(world.look())
    assert found["side"].limits.search_limit == 50
    assert found["shop"].index.memory_per_shard == 4 * 1024**3


def test_each_index_has_the_number_of_database_connections_in_its_status() -> None:
    world = _two(gateway={"replicas": 4})
    assert world.status("shop").postgres_connections == 2 * 4 + 2 * 2
    assert world.status("side").postgres_connections == 4 * 4 + 2 * 2


def test_an_index_answers_before_the_cluster_has_settled() -> None:
    world = World().add()
    world.obey(world.look())
    world.see(serving=SERVES.__class__(exists=True, running=True, answers=None, missing="shard-0 has 1 of 2"))
    world.look()
    assert world.condition("Ready").status == "True"
    assert world.condition("Degraded").reason == "PartsMissing"


@pytest.mark.parametrize(
    ("upgrade", "told"),
    [
        ("BlueGreen", "are loaded a second time and move with it"),
        ("Recreate", "cannot be searched meanwhile either"),
    ],
)
def test_who_reshards_says_what_that_does_to_the_others_of_the_cluster(upgrade: str, told: str) -> None:
    world = World().serving("shop", ray={"upgrade": upgrade}).serving("side").serving("third")
    world.edit("shop", ray={"upgrade": upgrade}, index={"shards": 2})
    world.look()
    plan = world.status("shop").plan
    assert plan is not None
    assert plan.summary[1] == f"side, third on the same cluster {told}"


def test_who_changes_within_the_cluster_says_nothing_of_the_others() -> None:
    world = World().serving("shop").serving("side")
    world.edit("shop", limits={"search_limit": 50})
    world.look()
    plan = world.status("shop").plan
    assert plan is not None
    assert "same cluster" not in " ".join(plan.summary)
