"""Activating a generation: the shards load it, and once every one of them has, it is made the active one.

That it is wanted is written down first. Any gateway may take the second step, so that an activation goes on when the one
that was asked for it dies.
"""

import asyncio
import logging
import time

from visualindex.catalog import Catalog, GenerationRecord, everywhere, short_of_images, unloadable
from visualindex.errors import ProblemError, ProblemType

logger = logging.getLogger(__name__)

_LOOK_S = 0.1


async def activate(
    catalog: Catalog,
    index: str,
    generation: str,
    shards: int,
    wait_s: float,
    *,
    force: bool = False,
    judged: bool = False,
) -> GenerationRecord:
    """Prepare and activate, waiting at most `wait_s` seconds for the shards; the record tells how far it got.

    Whatever was asked for before and is not active yet is taken back. Raises ProblemError NOT_FOUND, or CONFLICT for a
    generation that has ended, that the shards cannot load, whose encoder cannot be searched with, that somebody takes back
    meanwhile, or, without `force`, that the quality gate refused (with `judged`, or has not judged) or with which a full
    shard that has it loaded would find fewer images than it does now.
    """
    until = time.monotonic() + wait_s
    if not force:
        await _refuse_short(catalog, index, generation, shards)
    await catalog.prepare_generation(index, generation, force=force, judged=judged)
    while True:
        await advance(catalog, index, shards)
        record = await catalog.get_generation(index, generation)
        if record.state not in ("preparing", "active"):
            why = record.problem or "another one was asked for since"
            detail = f"generation {generation} of index {index} cannot be activated: {why}"
            raise ProblemError(ProblemType.CONFLICT, detail)
        if record.state == "active" or time.monotonic() >= until:
            return record
        await asyncio.sleep(_LOOK_S)


async def _refuse_short(catalog: Catalog, index: str, generation: str, shards: int) -> None:
    """Raise ProblemError CONFLICT if images would be hidden: known of what is loaded, as all that was active before is."""
    loads = [one for one in await catalog.replica_loads(index) if one.shards in (None, shards)]
    problem = short_of_images(loads, generation)
    if problem is not None:
        detail = f"generation {generation} of index {index} is not activated: {problem}"
        raise ProblemError(ProblemType.CONFLICT, detail)


async def roll_back(catalog: Catalog, index: str, shards: int, wait_s: float) -> GenerationRecord:
    """Activate the generation that was active before. Raises ProblemError CONFLICT when there is none."""
    before = {
        record.activated_at: record.generation
        for record in await catalog.loaded_generations(index)
        if record.activated_at is not None and record.state != "active"
    }
    if not before:
        raise ProblemError(ProblemType.CONFLICT, f"index {index} has no earlier generation to roll back to")
    return await activate(catalog, index, before[max(before)], shards, wait_s)


async def advance(catalog: Catalog, index: str, shards: int) -> None:
    """Take the second step of an activation that is under way, if the shards allow it; give it up if one cannot."""
    loaded = await catalog.loaded_generations(index)
    wanted = next((record for record in loaded if record.state == "preparing"), None)
    if wanted is None:
        return
    loads = await catalog.replica_loads(index)
    problem = unloadable(loads, wanted.generation)
    if problem is not None:
        await _give_up(catalog, index, wanted.generation, problem)
    elif everywhere(loads, wanted.generation, shards) and await _activated(catalog, index, wanted.generation):
        logger.info("generation %s of index %s is active", wanted.generation, index)


async def _activated(catalog: Catalog, index: str, generation: str) -> bool:
    """Whether it is active from now on; it may have been taken back in this moment."""
    try:
        return await catalog.activate_generation(index, generation)
    except ProblemError as problem:
        if problem.type is not ProblemType.CONFLICT:
            raise
        await _give_up(catalog, index, generation, problem.detail)
        return False


async def _give_up(catalog: Catalog, index: str, generation: str, problem: str) -> None:
    if await catalog.fail_generation(index, generation, problem):
        logger.error("generation %s of index %s is given up: %s", generation, index, problem)
