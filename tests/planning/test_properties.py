"""What holds of every plan, whatever the resources say and whatever is seen."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.planning.world import BEGINNING, spec

from visualindex.planning.conditions import condition
from visualindex.planning.observations import (
    Check,
    Dependencies,
    GroupObserved,
    Member,
    MemberObserved,
    Serving,
)
from visualindex.planning.plan import EndCluster, GroupPlan, Serve, StopServing, dumped, plan
from visualindex.planning.shape import as_resource, cluster_shape
from visualindex.spec import Spec
from visualindex.spec.status import Plan, Status

USUAL = settings(max_examples=50, deadline=None)
PLENTY = settings(max_examples=200, deadline=None)
_NOW = BEGINNING + timedelta(days=1)
_NAMES = ("shop", "side", "third")
_GIB = 1024**3

_SECTIONS: dict[str, list[Any]] = {
    "profile": ["standard", "small"],
    "suspend": [False, True],
    "change_policy": ["Automatic", "Approve"],
    "encoder": [{}, {"dimension": 128}, {"num_gpus": 1}, {"num_gpus": 0.5, "dimension": 128}],
    "index": [{}, {"shards": 2}, {"memory_per_shard": _GIB}],
    "limits": [{}, {"search_limit": 50}],
    "ray": [{}, {"gpu_budget": 2}, {"upgrade": "Recreate"}, {"workers": {"layout": "ByRole"}}],
}
SPECS = st.fixed_dictionaries({}, optional={k: st.sampled_from(v) for k, v in _SECTIONS.items()}).map(
    lambda sections: spec(**sections)
)
CHECKS = st.builds(Check, st.booleans(), st.just("Connected"), st.sampled_from(["", "refused"]))
MIGRATIONS = st.sampled_from(["absent", "running", "done", "failed"])
DEPENDENCIES = st.builds(Dependencies, CHECKS, CHECKS, CHECKS, st.just("digest"), MIGRATIONS)
SERVINGS = st.builds(
    Serving,
    exists=st.booleans(),
    running=st.booleans(),
    settled=st.booleans(),
    failed=st.booleans(),
    answers=st.sampled_from([None, "503"]),
    missing=st.sampled_from(["", "a replica"]),
    deployed=st.booleans(),
)
SEEN = st.builds(MemberObserved, DEPENDENCIES, SERVINGS, st.sampled_from([None, 0, 5]))
APPLIED = st.one_of(st.none(), st.just({"fromTheFuture": True}), SPECS.map(dumped))
OLD_PLANS = st.one_of(
    st.none(),
    st.builds(
        Plan, id=st.just("old"), change=st.just("InPlace"), state=st.sampled_from(["Waiting", "Proceeding"])
    ),
)
STATUSES = st.builds(Status, applied=APPLIED, plan=OLD_PLANS)


@st.composite
def members(draw: st.DrawFn) -> list[Member]:
    """One to three resources of a group."""
    names = draw(st.lists(st.sampled_from(_NAMES), min_size=1, unique=True))
    return [
        Member(
            name=name,
            generation=draw(st.integers(1, 3)),
            created=BEGINNING + timedelta(seconds=draw(st.integers(0, 2))),
            spec=draw(st.one_of(st.none(), SPECS, SPECS, SPECS)),
            paused=draw(st.sampled_from([False, False, True])),
            deleting=draw(st.sampled_from([False, False, True])),
            status=draw(STATUSES),
        )
        for name in names
    ]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Member], GroupObserved]:
    """Resources, with what is seen of them; now and then with the approval that their plan asks for."""
    group = draw(members())
    shape = draw(st.sampled_from(["", "unknown", cluster_shape([as_resource("shop", spec())]).identity()]))
    observed = GroupObserved({one.name: draw(SEEN) for one in group}, shape, "http://shop:8000")
    if draw(st.booleans()):
        plans = {name: status.plan for name, status in planned(group, observed).statuses.items()}
        group = [replace(one, approved=p.id if (p := plans.get(one.name)) else "") for one in group]
    return group, observed


def planned(group: list[Member], observed: GroupObserved) -> GroupPlan:
    """The plan of a group whose cluster is called `shop`."""
    return plan(group, observed, cluster="shop", now=_NOW)


def served(told: GroupPlan) -> dict[str, Spec] | None:
    """The served indexes; None where the cluster is left as it is, or has to end before it is made anew."""
    for action in told.actions:
        if isinstance(action, Serve):
            return {one.name: one.spec for one in action.served}
        if isinstance(action, StopServing):
            return {}
    return None


def written(group: list[Member], told: GroupPlan) -> list[Member]:
    """The members after their statuses were written and read again."""
    return [
        replace(one, status=Status.model_validate(told.statuses[one.name].model_dump(by_alias=True)))
        if one.name in told.statuses
        else one
        for one in group
    ]


@given(worlds())
@USUAL
def test_equal_worlds_have_equal_plans(world: tuple[list[Member], GroupObserved]) -> None:
    assert planned(*world) == planned(*world)


@given(worlds(), st.randoms())
@USUAL
def test_the_order_of_the_resources_does_not_matter(
    world: tuple[list[Member], GroupObserved], random: Any
) -> None:
    group, observed = world
    shuffled = random.sample(group, len(group))
    assert planned(shuffled, observed) == planned(group, observed)


@given(worlds())
@USUAL
def test_every_resource_that_stays_is_reported_of(world: tuple[list[Member], GroupObserved]) -> None:
    group, observed = world
    statuses = planned(group, observed).statuses
    assert set(statuses) == {one.name for one in group if not one.deleting}
    assert all(len({c.type for c in status.conditions}) == 11 for status in statuses.values())


@given(worlds())
@PLENTY
def test_in_a_world_that_stands_still_plans_come_to_rest(world: tuple[list[Member], GroupObserved]) -> None:
    """A change is carried out, then what is left of it is told; nothing follows from that."""
    group, observed = world
    for _ in range(2):
        group = written(group, planned(group, observed))
    third = planned(group, observed)
    group = written(group, third)
    assert planned(group, observed) == third


@given(worlds())
@USUAL
def test_no_time_moves_unless_a_status_does(world: tuple[list[Member], GroupObserved]) -> None:
    group, observed = world
    for _ in range(3):
        group = written(group, planned(group, observed))
    later = plan(group, observed, cluster="shop", now=_NOW + timedelta(days=1))
    assert later.statuses == {one.name: one.status for one in group if not one.deleting}


@given(worlds())
@PLENTY
def test_nothing_is_served_for_the_first_time_before_it_was_checked_and_migrated(
    world: tuple[list[Member], GroupObserved],
) -> None:
    group, observed = world
    found = served(planned(group, observed)) or {}
    for one in group:
        if one.name in found and (one.status.applied is None or "fromTheFuture" in one.status.applied):
            needed = observed.members[one.name].dependencies
            assert needed.metadata.ok
            assert needed.storage.ok
            assert needed.keys.ok
            assert needed.migration == "done"


@given(worlds())
@PLENTY
def test_what_is_served_of_an_index_does_not_depend_on_the_others(
    world: tuple[list[Member], GroupObserved],
) -> None:
    """No index is dropped, added or changed because of another: at most the cluster is left alone for a while."""
    group, observed = world
    together = served(planned(group, observed))
    if together is None:
        return
    for one in group:
        unpaused = Member(
            "other", 1, BEGINNING, spec(suspend=True)
        )  # one paused index alone is not planned at all
        seen = {one.name: observed.members[one.name], "other": _NOTHING_SEEN}
        alone = served(planned([one, unpaused], replace(observed, members=seen)))
        if alone is not None:
            assert together.get(one.name) == alone.get(one.name)


_NOTHING_SEEN = MemberObserved(Dependencies(*[Check(True, "Connected")] * 3, migration="done"))


@given(worlds())
@USUAL
def test_a_deleted_resource_is_never_served(world: tuple[list[Member], GroupObserved]) -> None:
    group, observed = world
    assert not set(served(planned(group, observed)) or {}) & {one.name for one in group if one.deleting}


@given(worlds())
@USUAL
def test_ready_is_true_only_where_a_search_was_answered(world: tuple[list[Member], GroupObserved]) -> None:
    group, observed = world
    for name, status in planned(group, observed).statuses.items():
        ready = next(c for c in status.conditions if c.type == "Ready")
        assert ready.status == "False" or observed.members[name].serving.answers is None


@given(worlds())
@USUAL
def test_a_change_that_waits_is_not_carried_out(world: tuple[list[Member], GroupObserved]) -> None:
    group, observed = world
    told = planned(group, observed)
    for one in group:
        status = told.statuses.get(one.name)
        if status is None or status.plan is None or status.plan.state not in ("Waiting", "Blocked"):
            continue
        assert status.applied == one.status.applied
        found = served(told)
        if found is not None and one.name in found:
            assert dumped(found[one.name]) == one.status.applied


@given(worlds())
@USUAL
def test_a_cluster_ends_only_for_a_change_that_somebody_approved(
    world: tuple[list[Member], GroupObserved],
) -> None:
    group, observed = world
    if any(isinstance(action, EndCluster) for action in planned(group, observed).actions):
        assert any(one.approved for one in group)


def test_an_unknown_observation_is_reported_as_such() -> None:
    assert condition("StorageReady", None, "Unreachable").status == "Unknown"
