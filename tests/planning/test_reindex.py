"""Another encoder: vectors of two encoders never meet, so that all images have to be encoded again first."""

from dataclasses import replace
from typing import Any

import pytest
from tests.planning.world import BEGINNING, World, served

from visualindex.planning.observations import EncoderSeen, Generation, ReindexJob
from visualindex.planning.plan import GroupPlan, Serve
from visualindex.spec import EncoderSpec
from visualindex.spec.quantities import parse_bytes

_OTHER = {"dimension": 128}


@pytest.mark.parametrize("images", [1, 100_000, None])
def test_with_images_or_an_unknown_number_of_them_the_old_encoder_serves_on(images: int | None) -> None:
    world = World().serving(images=images)
    world.see(images=images)
    world.edit(encoder=_OTHER)
    assert served(world.look())["shop"].encoder.dimension == 256
    required = world.condition("ReindexRequired")
    assert (required.status, required.reason) == ("True", "EncoderChanged")
    plan = world.status().plan
    assert plan is not None
    assert (plan.change, plan.state) == ("Reindex", "Pending")


def test_without_images_another_encoder_is_only_a_change() -> None:
    world = World().serving(images=0)
    world.edit(encoder=_OTHER)
    assert served(world.look())["shop"].encoder.dimension == 128
    assert world.condition("ReindexRequired").status == "False"


def test_the_other_changes_of_the_same_edit_are_carried_out() -> None:
    world = World().serving(images=5)
    world.edit(
        encoder={**_OTHER, "family": "timm", "model": "resnet50", "checkpoint": "/r.pt", "max_batch_size": 8},
        limits={"search_limit": 50},
    )
    told = served(world.look())["shop"]
    assert told.limits.search_limit == 50
    assert told.encoder.max_batch_size == 8
    assert (told.encoder.family, told.encoder.model, told.encoder.dimension) == (
        "efficientnet-lite0",
        None,
        256,
    )


def test_what_is_carried_out_is_told_first_and_then_what_is_left() -> None:
    world = World().serving(images=5)
    world.edit(encoder=_OTHER, limits={"search_limit": 50})
    told = world.look()
    plan = world.status().plan
    assert plan is not None
    assert (plan.change, plan.state) == ("InPlace", "Proceeding")
    world.obey(told)
    world.look()
    plan = world.status().plan
    assert plan is not None
    assert (plan.change, plan.state) == ("Reindex", "Pending")


def test_one_approval_is_enough_for_what_is_carried_out_now() -> None:
    world = World().serving(images=5, change_policy="Approve")
    world.edit(encoder=_OTHER, limits={"search_limit": 50}, change_policy="Approve")
    world.look()
    plan = world.status().plan
    assert plan is not None
    assert (plan.change, plan.state) == ("Reindex", "Waiting")
    assert plan.id in world.condition("UpgradeBlocked").message
    world.change(approved=plan.id)
    assert served(world.look())["shop"].limits.search_limit == 50
    world.look()
    assert world.condition("UpgradeBlocked").status == "False"
    assert world.condition("ReindexRequired").status == "True"


def test_taking_the_encoder_back_ends_the_wait() -> None:
    world = World().serving(images=5)
    world.edit(encoder=_OTHER)
    world.look()
    world.edit()
    world.look()
    assert world.condition("ReindexRequired").status == "False"
    assert world.status().plan is None


def test_when_the_images_are_gone_the_wait_is_over() -> None:
    world = World().serving(images=5)
    world.edit(encoder=_OTHER)
    world.look()
    world.see(images=0)
    assert served(world.look())["shop"].encoder.dimension == 128


@pytest.mark.parametrize("key", ["replicas", "max_batch_size", "num_gpus"])
def test_how_an_encoder_runs_needs_no_reindex(key: str) -> None:
    world = World().serving(images=5)
    world.edit(encoder={key: 1})
    world.look()
    assert world.condition("ReindexRequired").status == "False"


OLD, NEW = EncoderSpec(), EncoderSpec(dimension=128)


def seen(encoder: EncoderSpec, name: str, **fields: Any) -> EncoderSeen:
    return EncoderSeen(name, encoder, **{"state": "required", "held_by": 2, "gateways": 2, **fields})


def moving(**sections: Any) -> World:
    """An index whose gateways have noted their encoder, and whose spec names another one now."""
    world = World().serving(images=1000, **sections)
    world.see(encoders=(seen(OLD, "a", searched=True),))
    world.look()
    world.edit(**{**sections, "encoder": {**sections.get("encoder", {}), **_OTHER}})
    return world


def told(world: World) -> tuple[str, str]:
    world.look()
    found = world.condition("ReindexRequired")
    return found.status, found.reason


def serve_of(plan: GroupPlan) -> Serve:
    (found,) = [action for action in plan.actions if isinstance(action, Serve)]
    return found


def test_an_encoder_that_can_be_loaded_again_is_served_beside_the_new_one() -> None:
    world = moving()
    action = serve_of(world.look())
    (one,) = action.served
    assert one.spec.encoder.dimension == 128
    assert one.others == (OLD,)
    plan = world.status().plan
    assert plan is not None
    assert (plan.change, plan.state) == ("Reindex", "Proceeding")
    assert "a second cluster starts beside the first and takes over: no search fails" in plan.summary
    assert any("256Mi more in each of 2 gateways" in line for line in plan.summary), plan.summary
    assert parse_bytes(plan.after.memory) > parse_bytes(plan.before.memory)


def test_each_phase_of_the_move_is_told() -> None:
    world = moving()
    assert told(world) == ("True", "EncoderLoading")
    joining = seen(NEW, "b", state="joining", held_by=1)
    phases: list[tuple[dict[str, Any], str]] = [
        ({"encoders": (seen(OLD, "a", searched=True), joining)}, "EncoderLoading"),
        (
            {"encoders": (seen(OLD, "a", searched=True), replace(joining, problem="gone"))},
            "EncoderUnavailable",
        ),
        ({"encoders": (seen(OLD, "a", searched=True), seen(NEW, "b"))}, "BothServed"),
        ({"reindex": ReindexJob("job", "running")}, "Reindexing"),
    ]
    for observed, reason in phases:
        world.see(**observed)
        assert told(world) == ("True", reason)
    both = (seen(OLD, "a", searched=True), seen(NEW, "b", generations=("g2",)))
    for state, problem, reason in (
        ("ready", "", "CandidateReady"),
        ("ready", "recall fell", "CandidateRefused"),
        ("preparing", "", "Switching"),
        ("failed", "a shard is full", "SwitchFailed"),
    ):
        candidate = Generation("g2", state, BEGINNING, problem=problem)  # type: ignore[arg-type]
        world.see(encoders=both, reindex=None, generations=(candidate,))
        assert told(world) == ("True", reason)
    switched = (seen(OLD, "a", generations=("g1",)), seen(NEW, "b", searched=True, generations=("g2",)))
    world.see(encoders=switched)
    assert told(world) == ("False", "SameEncoder")
    assert "256 dimensions is loaded as well" in world.condition("ReindexRequired").message


def test_the_old_encoder_goes_with_its_last_generation_and_no_pod_for_it() -> None:
    """Its memory stays the pods' until they are replaced for a reason that people gave."""
    world = moving()
    world.obey(world.look())
    shape = world.shape
    world.see(encoders=(seen(NEW, "b", searched=True),))
    action = serve_of(world.look())
    assert action.served[0].others == ()
    assert action.shape.identity() == shape
    world.edit(encoder=_OTHER, gateway={"replicas": 3})
    assert serve_of(world.look()).shape.identity() == shape
    assert world.status().room
    world.edit(encoder=_OTHER, limits={"request_bytes": 1024**3})
    assert serve_of(world.look()).shape.identity() != shape
    assert not world.status().room


def test_gpus_of_both_encoders_count_against_the_budget() -> None:
    gpus = {"encoder": {"num_gpus": 1, "replicas": 2}, "ray": {"gpu_budget": 3}}
    world = World().serving(images=1000, **gpus)
    world.see(encoders=(seen(EncoderSpec(num_gpus=1), "a", searched=True),))
    world.look()
    world.edit(**{**gpus, "encoder": {**gpus["encoder"], **_OTHER}})
    assert served(world.look())["shop"].encoder.dimension == 256
    plan = world.status().plan
    assert plan is not None
    assert (plan.state, plan.during.gpus) == ("Blocked", 4)


def test_a_change_that_is_taken_back_before_the_switch_ends_the_move() -> None:
    world = moving()
    world.obey(world.look())
    world.see(encoders=(seen(OLD, "a", searched=True), seen(NEW, "b")))
    world.look()
    world.edit()
    action = serve_of(world.look())
    assert action.served[0].spec.encoder.dimension == 256
    # Until nothing names it: gateways of the spec before may be asking it.
    assert action.served[0].others == (NEW,)
    plan = world.status().plan
    assert plan is not None
    assert plan.change != "Reindex"
    assert told(world) == ("False", "SameEncoder")
