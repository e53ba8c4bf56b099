"""Another encoder: vectors of two encoders never meet, so that all images have to be encoded again first."""

import pytest
from tests.planning.world import World, served

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
