"""Which encoders an index has, when writes must bring their vectors, and when searches may change over."""

import uuid
from typing import Any

import numpy as np
import pytest

from visualindex.catalog import Catalog, EncoderRecord, ImageWrite, LacksVectorError, Position
from visualindex.errors import ProblemError, ProblemType

from .scene import DIMENSION, FINGERPRINT, INDEX

OTHER, OTHER_DIMENSION = "encoder-b", 4
LEASE_S = 3600.0
"""Longer than a slow machine takes for a test."""
SETTINGS = {"encoder": {"dimension": DIMENSION}}


def write(number: int, *fingerprints: str) -> ImageWrite:
    sizes = {FINGERPRINT: DIMENSION, OTHER: OTHER_DIMENSION}
    return ImageWrite(
        image_id=uuid.UUID(int=number),
        content_digest=number.to_bytes(32, "big"),
        media_type="image/jpeg",
        width=1,
        height=1,
        size_bytes=1,
        embeddings={(0, name): np.ones(sizes[name], np.float32) for name in fingerprints},
    )


async def entered(catalog: Catalog) -> None:
    """An index with an image, one gateway that names the encoder it has, and one that names another."""
    await catalog.enter_encoder(INDEX, FINGERPRINT, DIMENSION, SETTINGS)
    await catalog.put_images(INDEX, [write(1, FINGERPRINT)])
    await catalog.enter_encoder(INDEX, OTHER, OTHER_DIMENSION, {"encoder": {}})
    await catalog.hold_encoders(INDEX, "old", FINGERPRINT, [FINGERPRINT], LEASE_S)
    await catalog.hold_encoders(INDEX, "new", OTHER, [FINGERPRINT, OTHER], LEASE_S)


async def both_served(catalog: Catalog) -> None:
    await entered(catalog)
    await catalog.hold_encoders(INDEX, "old", FINGERPRINT, [FINGERPRINT, OTHER], LEASE_S)
    await catalog.settle_encoders(INDEX)


async def proposed(catalog: Catalog, name: str, fingerprint: str) -> str:
    generation = f"{name:0>16}"
    position = await current(catalog)
    await catalog.propose_generation(INDEX, generation, fingerprint, {"shards": []}, position)
    return generation


async def current(catalog: Catalog) -> Position:
    follower = catalog.follow(INDEX, FINGERPRINT, range(1024))
    async for _ in follower.load():
        pass
    return follower.position


async def states(catalog: Catalog) -> dict[str, tuple[str, bool]]:
    return {one.fingerprint: (one.state, one.complete) for one in await catalog.index_encoders(INDEX)}


async def record(catalog: Catalog, fingerprint: str) -> EncoderRecord:
    return next(one for one in await catalog.index_encoders(INDEX) if one.fingerprint == fingerprint)


async def test_an_empty_index_takes_the_encoder_it_is_given(catalog: Catalog) -> None:
    await catalog.enter_encoder(INDEX, FINGERPRINT, DIMENSION, SETTINGS)
    taken = await catalog.enter_encoder(INDEX, OTHER, OTHER_DIMENSION, {"encoder": {}})
    assert (taken.fingerprint, taken.dimension) == (OTHER, OTHER_DIMENSION)
    assert await states(catalog) == {OTHER: ("required", True)}


async def test_two_gateways_that_name_different_encoders_do_not_take_turns(catalog: Catalog) -> None:
    """Over an empty index: who started last is right, and who only says again that it lives changes nothing."""
    await catalog.enter_encoder(INDEX, FINGERPRINT, DIMENSION, SETTINGS)
    await catalog.enter_encoder(INDEX, OTHER, OTHER_DIMENSION, {"encoder": {}})
    again = await catalog.enter_encoder(INDEX, FINGERPRINT, DIMENSION, SETTINGS, adopt=False)
    assert again.fingerprint == OTHER
    assert await states(catalog) == {OTHER: ("required", True), FINGERPRINT: ("joining", False)}


async def test_a_silent_gateway_keeps_its_encoder_for_a_while(catalog: Catalog) -> None:
    """To make vectors anew is dear; one that goes away in order is gone at once."""
    await entered(catalog)
    await catalog.hold_encoders(INDEX, "new", OTHER, [FINGERPRINT, OTHER], -1)
    assert await catalog.settle_encoders(INDEX) == ([], [])
    await catalog.release_gateway(INDEX, "new")
    assert await catalog.settle_encoders(INDEX) == ([], [OTHER])


async def test_an_index_with_images_goes_on_with_its_own(catalog: Catalog) -> None:
    await entered(catalog)
    assert await states(catalog) == {FINGERPRINT: ("required", True), OTHER: ("joining", False)}
    known = await record(catalog, FINGERPRINT)
    assert (known.settings, known.searched, known.named) == (SETTINGS, True, True)
    assert ((await record(catalog, OTHER)).held_by, known.gateways) == (1, 2)


async def test_nobody_changes_an_encoder_that_nobody_can_load_again(catalog: Catalog) -> None:
    """An index of the release before, whose encoder was not noted."""
    await catalog.put_images(INDEX, [write(1, FINGERPRINT)])
    with pytest.raises(ProblemError, match="start this release once with the encoder settings of before"):
        await catalog.enter_encoder(INDEX, OTHER, OTHER_DIMENSION, {"encoder": {}})
    assert await states(catalog) == {}


async def test_writes_must_bring_the_new_vector_once_every_gateway_can(catalog: Catalog) -> None:
    await entered(catalog)
    assert await catalog.settle_encoders(INDEX) == ([], [])
    await catalog.put_images(INDEX, [write(2, FINGERPRINT)])
    await catalog.hold_encoders(INDEX, "old", FINGERPRINT, [FINGERPRINT, OTHER], LEASE_S)
    assert await catalog.settle_encoders(INDEX) == ([OTHER], [])
    with pytest.raises(LacksVectorError, match=OTHER):
        await catalog.put_images(INDEX, [write(3, FINGERPRINT)])
    await catalog.put_images(INDEX, [write(3, FINGERPRINT, OTHER), write(2)])


async def test_a_gateway_that_died_keeps_nobody_waiting(catalog: Catalog) -> None:
    await entered(catalog)
    await catalog.hold_encoders(INDEX, "old", FINGERPRINT, [FINGERPRINT], -1)
    assert await catalog.settle_encoders(INDEX) == ([OTHER], [])


async def test_searches_change_over_with_the_generation_and_back(catalog: Catalog) -> None:
    await both_served(catalog)
    first, second = await proposed(catalog, "a", FINGERPRINT), await proposed(catalog, "b", OTHER)
    for generation in (first, second):
        if generation == second:
            assert await catalog.complete_encoder(INDEX, OTHER)
        await catalog.prepare_generation(INDEX, generation)
        assert await catalog.activate_generation(INDEX, generation)
    found = (await catalog.searchable_generations([INDEX]))[INDEX]
    assert [(one.generation, one.fingerprint, one.dimension) for one in found] == [
        (second, OTHER, OTHER_DIMENSION),
        (first, FINGERPRINT, DIMENSION),
    ]
    index = await catalog.get_index(INDEX)
    assert index is not None
    assert (index.fingerprint, index.dimension, index.first_fingerprint) == (OTHER, 4, FINGERPRINT)
    await catalog.prepare_generation(INDEX, first)
    assert await catalog.activate_generation(INDEX, first)
    assert (await catalog.searchable_generations([INDEX]))[INDEX][0].fingerprint == FINGERPRINT


async def refusal(catalog: Catalog, generation: str) -> str:
    with pytest.raises(ProblemError) as caught:
        await catalog.prepare_generation(INDEX, generation, force=True)
    assert caught.value.type is ProblemType.CONFLICT
    return caught.value.detail


async def test_no_change_over_while_images_lack_its_vectors(catalog: Catalog) -> None:
    await both_served(catalog)
    candidate = await proposed(catalog, "b", OTHER)
    assert "images were written without a vector of its encoder" in await refusal(catalog, candidate)


async def test_no_change_over_when_its_encoder_goes_while_shards_load_it(catalog: Catalog) -> None:
    await both_served(catalog)
    await catalog.complete_encoder(INDEX, OTHER)
    candidate = await proposed(catalog, "b", OTHER)
    await catalog.prepare_generation(INDEX, candidate)
    await catalog.give_up_encoder(INDEX, OTHER, "its file is gone")
    with pytest.raises(ProblemError, match="cannot be loaded: its file is gone"):
        await catalog.activate_generation(INDEX, candidate)


async def test_no_change_over_to_an_encoder_that_leaves(catalog: Catalog) -> None:
    await both_served(catalog)
    candidate = await proposed(catalog, "b", OTHER)
    await catalog.hold_encoders(INDEX, "new", FINGERPRINT, [FINGERPRINT, OTHER], 60)
    assert await catalog.settle_encoders(INDEX) == ([], [OTHER])
    assert "named by no spec any more" in await refusal(catalog, candidate)


async def test_no_change_over_before_every_gateway_has_it(catalog: Catalog) -> None:
    """One that started since then and has not loaded it yet."""
    await both_served(catalog)
    candidate = await proposed(catalog, "b", OTHER)
    await catalog.complete_encoder(INDEX, OTHER)
    await catalog.prepare_generation(INDEX, candidate)
    await catalog.hold_encoders(INDEX, "third", OTHER, [FINGERPRINT], LEASE_S)
    assert not await catalog.activate_generation(INDEX, candidate)
    await catalog.hold_encoders(INDEX, "third", OTHER, [FINGERPRINT, OTHER], LEASE_S)
    assert await catalog.activate_generation(INDEX, candidate)


async def test_an_encoder_that_cannot_be_loaded_is_given_up_but_for_searches(catalog: Catalog) -> None:
    await both_served(catalog)
    await catalog.complete_encoder(INDEX, OTHER)
    for fingerprint in (OTHER, FINGERPRINT):
        await catalog.give_up_encoder(INDEX, fingerprint, "its file is gone")
    assert await states(catalog) == {FINGERPRINT: ("required", True), OTHER: ("joining", False)}
    candidate = await proposed(catalog, "b", OTHER)
    assert "cannot be loaded: its file is gone" in await refusal(catalog, candidate)
    await catalog.put_images(INDEX, [write(5, FINGERPRINT)])


async def test_an_encoder_leaves_with_its_last_generation(catalog: Catalog) -> None:
    """Until then it can be gone back to; afterwards nothing of it is left."""
    await both_served(catalog)
    first, second = await proposed(catalog, "a", FINGERPRINT), await proposed(catalog, "b", OTHER)
    await catalog.complete_encoder(INDEX, OTHER)
    for generation in (first, second):
        await catalog.prepare_generation(INDEX, generation)
        await catalog.activate_generation(INDEX, generation)
    await catalog.release_gateway(INDEX, "old")
    assert await catalog.settle_encoders(INDEX) == ([], [])
    assert await catalog.retire_generations(INDEX, 1) == [first]
    assert await catalog.settle_encoders(INDEX) == ([], [FINGERPRINT])
    await catalog.put_images(INDEX, [write(6, OTHER)])
    assert await catalog.forget_vectors(INDEX) == 1
    assert await states(catalog) == {OTHER: ("required", True)}
    assert await catalog.get_vectors(INDEX, [uuid.UUID(int=1)], FINGERPRINT) == {}


async def test_a_change_that_is_taken_back_takes_its_candidate_along(catalog: Catalog) -> None:
    await both_served(catalog)
    candidate = await proposed(catalog, "b", OTHER)
    newer = await proposed(catalog, "a", FINGERPRINT)
    await catalog.prepare_generation(INDEX, newer)
    await catalog.activate_generation(INDEX, newer)
    assert await catalog.retire_generations(INDEX, 2) == []  # older than the active one, and still wanted
    await catalog.hold_encoders(INDEX, "new", FINGERPRINT, [FINGERPRINT, OTHER], LEASE_S)
    assert await catalog.settle_encoders(INDEX) == ([], [OTHER])
    assert await catalog.retire_generations(INDEX, 2) == [candidate]


async def test_a_build_of_the_encoder_of_before_changes_nothing_back(catalog: Catalog) -> None:
    """One that was under way when searches changed over, or were about to."""
    await both_served(catalog)
    folded, candidate = await proposed(catalog, "a", FINGERPRINT), await proposed(catalog, "b", OTHER)
    await catalog.complete_encoder(INDEX, OTHER)
    await catalog.prepare_generation(INDEX, candidate)
    assert await catalog.prepare_generation(INDEX, folded, same_encoder=True) == "ready"
    await catalog.activate_generation(INDEX, candidate)
    assert await catalog.prepare_generation(INDEX, folded, same_encoder=True) == "ready"


def test_settings_load_the_same_encoder_again() -> None:
    from visualindex.spec import VisualIndex
    from visualindex.spec.served_encoder import encoder_settings, identity_of, same_space, with_settings

    def resource(**spec: Any) -> VisualIndex:
        document = {"apiVersion": "visualindex.dev/v1alpha1", "kind": "VisualIndex", "spec": spec}
        return VisualIndex.model_validate({**document, "metadata": {"name": "things"}})

    before = resource(
        encoder={"family": "timm", "model": "resnet50", "checkpoint": "/w.pt", "dimension": 64},
        rerank={"mode": "auto", "projection": "/p.npz"},
    )
    after = resource(encoder={"dimension": 128}, rerank={"mode": "auto"}, index={"shards": 2})
    again = with_settings(after, encoder_settings(before.spec))
    assert again.spec.encoder == before.spec.encoder
    assert (again.spec.rerank.projection, again.spec.index.shards) == ("/p.npz", 2)
    assert not same_space(before.spec.encoder, after.spec.encoder)
    assert identity_of(again.spec.encoder) == identity_of(before.spec.encoder)
