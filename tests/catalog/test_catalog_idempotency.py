"""A request repeated under its idempotency key writes once and hears the same."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from visualindex.catalog import AlreadyAnswered, Catalog, Idempotency, Written
from visualindex.errors import ProblemError, ProblemType

from .scene import INDEX, image, number_id


def keyed(digest: bytes = b"d1", key: str = "k") -> Idempotency[Written]:
    def respond(written: Sequence[Written]) -> dict[str, Any]:
        return {"ids": [str(result.image_id) for result in written], "token": str(written[0].token)}

    return Idempotency("caller", key, digest, respond)


async def test_the_answer_is_kept_with_the_write(catalog: Catalog) -> None:
    assert await catalog.find_idempotent("caller", "k", b"d1") is None
    written = await catalog.put_images(INDEX, [image(1)], keyed())
    answer = {"ids": [str(number_id(1))], "token": str(written[0].token)}
    assert await catalog.find_idempotent("caller", "k", b"d1") == answer
    version = (await catalog.get_image(INDEX, number_id(1))).version
    with pytest.raises(AlreadyAnswered) as repeat:
        await catalog.put_images(INDEX, [image(1)], keyed())
    assert repeat.value.response == answer
    assert (await catalog.get_image(INDEX, number_id(1))).version == version


async def test_a_key_with_another_request_is_a_conflict(catalog: Catalog) -> None:
    await catalog.put_images(INDEX, [image(1)], keyed())
    for call in (
        lambda: catalog.find_idempotent("caller", "k", b"d2"),
        lambda: catalog.put_images(INDEX, [image(2)], keyed(b"d2")),
    ):
        with pytest.raises(ProblemError, match="'k' was used for a request with other content") as conflict:
            await call()
        assert conflict.value.type is ProblemType.IDEMPOTENCY_CONFLICT
    assert await catalog.get_images(INDEX, [number_id(2)]) == {}
    assert await catalog.find_idempotent("other caller", "k", b"d2") is None


async def test_of_many_equal_requests_at_once_one_writes(catalog: Catalog) -> None:
    results = await asyncio.gather(
        *(catalog.put_images(INDEX, [image(1)], keyed()) for _ in range(4)), return_exceptions=True
    )
    written = [result for result in results if isinstance(result, list)]
    repeats = [result.response for result in results if isinstance(result, AlreadyAnswered)]
    assert len(written) == 1
    assert repeats == [{"ids": [str(number_id(1))], "token": str(written[0][0].token)}] * 3


async def test_a_failed_write_keeps_no_answer(catalog: Catalog) -> None:
    with pytest.raises(ProblemError):
        await catalog.put_images("hats", [image(1)], keyed())
    assert await catalog.find_idempotent("caller", "k", b"d1") is None


async def test_a_repeat_of_a_running_request_is_told_so(catalog: Catalog) -> None:
    inside, leave = asyncio.Event(), asyncio.Event()
    await catalog.put_images(INDEX, [image(1)])
    await catalog.delete_image(INDEX, number_id(1))

    async def ensure(_: bytes) -> None:
        inside.set()
        await leave.wait()

    first = asyncio.create_task(catalog.put_images(INDEX, [image(1)], keyed(), ensure_objects=ensure))
    await inside.wait()
    with pytest.raises(ProblemError, match="still running") as refusal:
        await catalog.put_images(INDEX, [image(1)], keyed())
    assert refusal.value.type is ProblemType.IDEMPOTENCY_IN_PROGRESS
    leave.set()
    await first


async def test_old_answers_are_pruned(catalog: Catalog) -> None:
    await catalog.put_images(INDEX, [image(1)], keyed())
    assert await catalog.prune_idempotency(keep_s=3600) == 0
    assert await catalog.prune_idempotency(keep_s=0) == 1
    assert await catalog.find_idempotent("caller", "k", b"d1") is None
