"""What checks read of the catalog, ask and keep: as of one moment, and only as long as the job is theirs."""

import dataclasses

import numpy as np
import pytest

from visualindex.catalog import CHECK, DIGESTS, Catalog, Fence, Position
from visualindex.errors import ProblemError, ProblemType
from visualindex.identity import bucket_of

from .scene import FINGERPRINT, INDEX, image, number_id, vector


async def fence_of_a_check(catalog: Catalog) -> Fence:
    await catalog.request_job(INDEX, CHECK, {})
    job = await catalog.claim_job(INDEX, 60)
    assert job is not None
    return job.fence


@pytest.mark.parametrize("vectors", [True, False])
async def test_every_image_with_a_vector_is_read_in_parts(catalog: Catalog, vectors: bool) -> None:
    await catalog.put_images(INDEX, [image(n) for n in range(5)])
    await catalog.put_images(INDEX, [image(9, embeddings={(0, "another"): vector(9)})])
    parts = [part async for part in catalog.true_rows(INDEX, FINGERPRINT, vectors=vectors, batch_rows=2)]
    assert [len(part) for part in parts] == [2, 2, 1]
    found = {
        row.tobytes(): (version, bucket)
        for part in parts
        for row, version, bucket in zip(part.ids, part.versions, part.buckets, strict=True)
    }
    records = await catalog.get_images(INDEX, [number_id(n) for n in range(5)])
    assert found == {key.bytes: (one.version, bucket_of(key)) for key, one in records.items()}
    assert {part.vectors is not None for part in parts} == {vectors}


async def test_some_images_are_read_by_bucket_and_by_id_with_the_moment(catalog: Catalog) -> None:
    await catalog.put_images(INDEX, [image(n) for n in range(3)])
    first, second = number_id(0), number_id(1)
    position, found = await catalog.true_rows_of(
        INDEX, FINGERPRINT, buckets=[bucket_of(first)], image_ids=[second.bytes]
    )
    assert {row.tobytes() for row in found.ids} >= {first.bytes, second.bytes}
    assert found.vectors is not None
    place = [row.tobytes() for row in found.ids].index(second.bytes)
    assert np.array_equal(found.vectors[place], vector(1).astype(np.float16))
    (written,) = await catalog.put_images(INDEX, [image(4)])
    assert not position.covers(written.token)
    later, nothing = await catalog.true_rows_of(INDEX, FINGERPRINT)
    assert later.covers(written.token)
    assert later.includes(position)
    assert not position.includes(later)
    assert len(nothing) == 0


def test_a_position_includes_another_when_it_saw_all_of_it() -> None:
    position = Position(1, 10, 20, (10, 15))
    assert position.includes(position)
    assert position.includes(Position(1, 10, 18, (10, 15)))
    assert not position.includes(Position(1, 12, 18, (15,)))
    assert not position.includes(Position(1, 10, 21, (10, 15)))
    assert Position(1, 30, 30, ()).includes(position)
    assert Position(2, 5, 5, ()).includes(position)
    assert not position.includes(Position(2, 5, 5, ()))


async def test_images_without_a_vector_are_counted_and_named(catalog: Catalog) -> None:
    await catalog.put_images(INDEX, [image(0), *(image(n, embeddings={}) for n in range(1, 4))])
    count, some = await catalog.without_vector(INDEX, FINGERPRINT, 2)
    assert count == 3
    assert len(set(some) & {number_id(n) for n in range(1, 4)}) == 2
    assert await catalog.without_vector(INDEX, FINGERPRINT, 10) == (
        3,
        sorted(number_id(n) for n in range(1, 4)),
    )


async def test_a_question_is_seen_answered_and_forgotten(catalog: Catalog) -> None:
    fence = await fence_of_a_check(catalog)
    question = await catalog.ask_replica(INDEX, "r", "g", DIGESTS, {"vectors": True}, fence)
    assert await catalog.take_questions(INDEX, "another") == []
    (waiting,) = await catalog.questions([question])
    assert not waiting.begun
    (taken,) = await catalog.take_questions(INDEX, "r")
    assert (taken.question_id, taken.parameters) == (question, {"vectors": True})
    (seen,) = await catalog.questions([question])
    assert (seen.begun, seen.answer) == (True, None)
    await catalog.answer_question(question, {"counts": "x"})
    assert await catalog.take_questions(INDEX, "r") == []
    (answered,) = await catalog.questions([question])
    assert answered.answer == {"counts": "x"}
    assert await catalog.forget_questions(INDEX) == 0
    assert await catalog.forget_questions(INDEX, job_id=fence.job_id) == 1


async def test_a_check_that_lost_its_job_commits_nothing(catalog: Catalog) -> None:
    fence = await fence_of_a_check(catalog)
    late = dataclasses.replace(fence, number=fence.number - 1)
    digest = bytes([7]) * 32
    for attempt in (
        catalog.keep_check(INDEX, {}, late),
        catalog.request_erasures(INDEX, [digest], late),
        catalog.note_missing_originals(INDEX, 7, {digest}, late),
        catalog.ask_replica(INDEX, "r", "g", DIGESTS, {}, late),
    ):
        with pytest.raises(ProblemError) as refused:
            await attempt
        assert refused.value.type is ProblemType.CONFLICT
    assert await catalog.last_check(INDEX) is None
    assert await catalog.missing_originals(INDEX, [digest]) == set()
    assert await catalog.to_be_erased(INDEX, [digest]) == set()


async def test_a_missing_original_keeps_its_mark_until_it_is_there_again(catalog: Catalog) -> None:
    fence = await fence_of_a_check(catalog)
    one, other, elsewhere = (bytes([first, last]) * 16 for first, last in ((7, 0), (7, 1), (8, 0)))
    await catalog.note_missing_originals(INDEX, 7, {one, other}, fence)
    await catalog.note_missing_originals(INDEX, 8, {elsewhere}, fence)
    await catalog.note_missing_originals(INDEX, 7, {other}, fence)
    assert await catalog.missing_originals(INDEX, [one, other, elsewhere]) == {other, elsewhere}
    assert await catalog.missing_originals(INDEX, [one, other]) == {other}
    await catalog.forget_missing_original(INDEX, other)
    assert await catalog.missing_originals(INDEX, [one, other, elsewhere]) == {elsewhere}


async def test_the_originals_of_a_part_are_those_that_images_refer_to(catalog: Catalog) -> None:
    digests = [bytes([first]) * 32 for first in (0, 7, 7, 255)]
    await catalog.put_images(INDEX, [image(n, content_digest=digest) for n, digest in enumerate(digests)])
    assert await catalog.original_digests(INDEX, 7) == {digests[1]}
    assert await catalog.original_digests(INDEX, 255) == {digests[3]}
    assert await catalog.original_digests(INDEX, 0) == {digests[0]}
    assert await catalog.original_digests(INDEX, 1) == set()
    referred = await catalog.images_of(INDEX, [digests[1], bytes(32)])
    assert {digest: set(images) for digest, images in referred.items()} == {
        digests[1]: {number_id(1), number_id(2)},
        digests[0]: {number_id(0)},
    }
