"""A rebuild makes what is missing from the originals, and nothing else."""

import numpy as np

from visualindex.catalog import ImageRecord
from visualindex.identity import content_digest
from visualindex.objectstore import jobs_prefix, original_key

from .collection import NAME, Collection, number_id


async def image(things: Collection, number: int) -> ImageRecord:
    return await things.catalog.get_image(NAME, number_id(number))


async def keys(things: Collection, prefix: str) -> list[str]:
    return [key async for key in things.store.list(prefix)]


async def test_every_image_gets_a_vector_and_the_generation_holds_them_all(things: Collection) -> None:
    await things.put(*range(300))
    job = await things.reindex(reindex={"prices": {"cpuHour": 3600.0}})
    assert (job.state, job.problem) == ("done", None)
    assert job.result is not None
    assert (job.result["images"], job.result["encoded"], job.result["rounds"]) == (300, 300, 1)
    assert job.result["cost"]["compute"] == round(job.result["cpu_s"], 6) or job.result["cpu_s"] > 0
    vectors = await things.vectors()
    assert len(vectors) == 300
    lengths = [np.linalg.norm(np.frombuffer(one, "<f2").astype(np.float32)) for one in vectors.values()]
    assert np.allclose(lengths, 1, atol=1e-2)
    (record,) = await things.catalog.list_generations(NAME)
    assert (record.generation, record.state) == (job.result["generation"], "ready")
    assert await keys(things, jobs_prefix(NAME)) == []


async def test_a_rebuild_without_a_change_encodes_nothing_and_gives_the_same_files(
    things: Collection,
) -> None:
    await things.put(*range(40))
    first = await things.reindex()
    second = await things.reindex()
    assert first.result is not None
    assert second.result is not None
    assert (second.result["encoded"], second.result["rounds"], second.result["bytes_read"]) == (0, 0, 0)
    assert second.result["contents"] == first.result["contents"]


async def test_only_what_lacks_something_is_made(things: Collection) -> None:
    await things.put(*range(20), vectors=True)
    await things.put(*range(20, 30))
    before = await things.vectors()
    job = await things.reindex()
    assert job.result is not None
    assert (job.result["encoded"], job.result["images"]) == (10, 30)
    after = await things.vectors()
    assert {image_id: after[image_id] for image_id in before} == before


async def test_colours_of_older_images_are_found_without_encoding(things: Collection) -> None:
    await things.put(*range(10), vectors=True)
    await things.without_colours()
    version = (await image(things, 3)).version
    job = await things.reindex()
    assert job.result is not None
    assert (job.result["encoded"], job.result["rounds"]) == (0, 1)
    found = await image(things, 3)
    assert found.colours
    assert found.version == version


async def test_patches_of_older_images_are_made_and_taken_into_the_generation(things: Collection) -> None:
    kept = {"rerank": {"mode": "always"}}
    await things.put(*range(10), vectors=True)
    first = await things.reindex(**kept)
    assert first.result is not None
    assert first.result["encoded"] == 10
    (record,) = await things.catalog.list_generations(NAME)
    assert record.manifest["parameters"]["rerank"]["images"] == 10
    again = await things.reindex(**kept)
    assert again.result is not None
    assert again.result["encoded"] == 0


async def test_images_that_cannot_be_had_are_set_aside_with_their_reasons(things: Collection) -> None:
    await things.put(*range(10))
    await things.put(10, data=b"no picture at all")
    await things.put(11, data=b"\xff\xd8\xff\xe0 cut off")
    await things.put(12, data=b"soon gone")
    await things.store.delete([original_key(NAME, content_digest(b"soon gone"))])
    job = await things.reindex()
    assert (job.state, job.problem) == ("done", None)
    assert job.result is not None
    assert (job.result["images"], job.result["quarantined"]) == (10, 3)
    aside = {one.image_id: one.reason for one in await things.catalog.quarantined(NAME)}
    assert aside == {
        number_id(10): "unsupported-image",
        number_id(11): "invalid-image",
        number_id(12): "not-found",
    }


async def test_other_content_ends_the_quarantine(things: Collection) -> None:
    await things.put(1, data=b"no picture at all")
    await things.reindex()
    assert len(await things.catalog.quarantined(NAME)) == 1
    await things.put(1)
    assert await things.catalog.quarantined(NAME) == []
    job = await things.reindex()
    assert job.result is not None
    assert job.result["images"] == 1


async def test_more_of_them_than_the_spec_allows_end_the_job_and_name_the_limit(things: Collection) -> None:
    await things.put(*range(5))
    for number in range(5, 9):
        await things.put(number, data=b"no picture %d" % number)
    job = await things.reindex(reindex={"maxQuarantined": 3})
    assert job.state == "failed"
    assert job.problem is not None
    assert "4 images" in job.problem
    assert "spec.reindex.maxQuarantined (3)" in job.problem
    assert await things.catalog.list_generations(NAME) == []


async def test_the_ledger_of_a_job_that_failed_goes_when_the_next_one_begins(things: Collection) -> None:
    await things.put(*range(3))
    await things.put(3, data=b"no picture at all")
    failed = await things.reindex(reindex={"maxQuarantined": 0})
    assert failed.state == "failed"
    assert await keys(things, jobs_prefix(NAME)) != []
    await things.reindex()
    assert await keys(things, jobs_prefix(NAME)) == []


async def test_vectors_of_another_encoder_come_beside_those_that_are_served(things: Collection) -> None:
    """The candidate is built of the new ones and waits; what the index serves stays as it is."""
    await things.put(*range(12))
    await things.reindex()
    before = await things.vectors()
    job = await things.reindex(activate=True, encoder={"dimension": 16})
    assert (job.state, job.problem) == ("done", None)
    assert job.result is not None
    assert (job.result["images"], job.result["encoded"], job.result["activating"]) == (12, 12, False)
    candidate = await things.catalog.get_generation(NAME, job.result["generation"])
    assert (candidate.state, candidate.manifest["dimension"]) == ("ready", 16)
    assert candidate.fingerprint != things.fingerprint
    assert await things.vectors() == before
