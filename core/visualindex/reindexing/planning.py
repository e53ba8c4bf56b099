"""From what the catalog lacks to a plan: images in the order of their ids, cut into chunks of a fixed size."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import cast
from uuid import UUID

from visualindex.catalog import Catalog, Lacking
from visualindex.reindexing.chunks import Todo
from visualindex.reindexing.ledger import Ledger, Plan, Recipe

FindPatches = Callable[[Sequence[Lacking]], Awaitable[set[UUID]]]
"""Which of some images, all of which have vectors, have patches as well."""
Choose = Callable[[], Awaitable[Recipe]]
"""Asked once there is an image to make something of: measuring takes the encoder."""
Say = Callable[[int], None]
"""Told how many images were planned."""


async def make_plan(
    catalog: Catalog,
    ledger: Ledger,
    index: str,
    job_id: UUID,
    name: str,
    fingerprint: str,
    choose: Choose,
    *,
    chunk_images: int,
    with_patches: FindPatches | None,
    say: Say = lambda _: None,
) -> Plan | None:
    """Write the lists of all images that lack something at one moment, then the plan itself; None when none does.

    Memory holds one chunk and one part of what the catalog sends.

    `with_patches` is given where the index keeps patches. The plan is not in force before the catalog says so.
    """
    chunks = images = 0
    waiting: list[Todo] = []

    async def flush(least: int) -> None:
        nonlocal chunks, images
        while len(waiting) >= least and waiting:
            await ledger.put_todo(name, chunks, waiting[:chunk_images])
            images += len(waiting[:chunk_images])
            del waiting[:chunk_images]
            chunks += 1
            say(images)

    parts = cast(
        "AsyncGenerator[list[Lacking]]",
        catalog.lacking(index, fingerprint, job_id, all_images=with_patches is not None),
    )
    async with aclosing(parts):
        async for part in parts:
            waiting += await _todo(part, with_patches)
            await flush(chunk_images)
    await flush(1)
    if not chunks:
        return None
    plan = Plan(name, chunks, images, chunk_images, await choose())
    await ledger.put_plan(plan)
    return plan


async def _todo(part: Sequence[Lacking], with_patches: FindPatches | None) -> list[Todo]:
    having: set[UUID] | None = None
    if with_patches is not None:
        having = await with_patches([one for one in part if one.vector is not None])
    found = [
        Todo(
            one.image_id,
            one.content_digest,
            encode=one.vector is None or (having is not None and one.image_id not in having),
            colours=one.colours,
        )
        for one in part
    ]
    return [one for one in found if one.encode or one.colours]
