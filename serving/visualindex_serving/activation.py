"""Activating a generation: the shards load it, and once every one of them has, it is made the active one.

Any gateway may take the second step, so that an activation goes on when the one that was asked for it dies.
"""

import asyncio
import logging
import time
from collections.abc import Sequence

from visualindex.catalog import Catalog, GenerationRecord, ReplicaLoad
from visualindex.errors import ProblemError, ProblemType

logger = logging.getLogger(__name__)

_LOOK_S = 0.1
FEWER = "it would find fewer images"
"""How a replica's problem begins with a generation that it has loaded, but not whole."""


async def activate(
    catalog: Catalog, index: str, generation: str, shards: int, wait_s: float, *, force: bool = False
) -> GenerationRecord:
    """Prepare and activate, waiting at most `wait_s` seconds for the shards; the record tells how far it got.

    Raises ProblemError NOT_FOUND, or CONFLICT for a generation that has ended, that the shards cannot load, or, without
    `force`, that the quality gate refused or with which a full shard would find fewer images than it does now.
    """
    until = time.monotonic() + wait_s
    await catalog.prepare_generation(index, generation, force=force)
    while True:
        await advance(catalog, index, shards, generation, force=force)
        record = await catalog.get_generation(index, generation)
        if record.state == "failed":
            detail = f"generation {generation} of index {index} cannot be activated: {record.problem}"
            raise ProblemError(ProblemType.CONFLICT, detail)
        if record.state == "active":
            return record
        if record.state == "kept":
            await _refuse_if_unloadable(catalog, index, generation, shards, force=force)
        if time.monotonic() >= until:
            return record
        await asyncio.sleep(_LOOK_S)


async def _refuse_if_unloadable(
    catalog: Catalog, index: str, generation: str, shards: int, *, force: bool
) -> None:
    """One that was active before is not given up when a shard cannot load it, but whoever wants it back is told."""
    loads = [one for one in await catalog.replica_loads(index) if one.shards in (None, shards)]
    problem = _problem(loads, generation, force=force)
    if problem is not None:
        detail = f"generation {generation} of index {index} cannot be activated: {problem}"
        raise ProblemError(ProblemType.CONFLICT, detail)


async def roll_back(catalog: Catalog, index: str, shards: int, wait_s: float) -> GenerationRecord:
    """Activate the generation that was active before. Raises ProblemError CONFLICT when there is none."""
    kept = [record for record in await catalog.loaded_generations(index) if record.state == "kept"]
    if not kept:
        raise ProblemError(ProblemType.CONFLICT, f"index {index} has no earlier generation to roll back to")
    return await activate(catalog, index, kept[0].generation, shards, wait_s)


async def hold_pinned(catalog: Catalog, index: str, generation: str) -> None:
    """Bring about that the generation which the spec names becomes active, as far as that is possible."""
    records = {record.generation: record for record in await catalog.list_generations(index)}
    if generation not in records:
        logger.warning("spec.generation of index %s names %s, which it does not have", index, generation)
    elif records[generation].state == "ready":
        await catalog.prepare_generation(index, generation, force=True)  # a person wrote its name
    elif records[generation].state == "kept":
        await catalog.activate_generation(index, generation)


async def advance(
    catalog: Catalog, index: str, shards: int, kept: str | None = None, *, force: bool = False
) -> None:
    """Take the second step of an activation that is under way, if the shards allow it; give it up if one cannot.

    `kept` names a generation that was active before and is wanted again: shards have it loaded, mostly. With `force` it may
    find fewer images than the active one.
    """
    loaded = await catalog.loaded_generations(index)
    wanted = next((r for r in loaded if r.state == "preparing" or r.generation == kept), None)
    if wanted is None or wanted.state == "active":
        return
    loads = await catalog.replica_loads(index)
    problem = _problem(loads, wanted.generation, force=force)
    if problem is not None:
        if await catalog.fail_generation(index, wanted.generation, problem):
            logger.error("generation %s of index %s is given up: %s", wanted.generation, index, problem)
    elif everywhere(loads, wanted.generation, shards) and await catalog.activate_generation(
        index, wanted.generation
    ):
        logger.info("generation %s of index %s is active", wanted.generation, index)


def everywhere(loads: Sequence[ReplicaLoad], generation: str, shards: int) -> bool:
    """Whether every one of so many shards has replicas, and all replicas that there are have loaded the generation.

    Those of another number of shards count as well: while that changes, gateways of both ask for the same generation.
    """
    own = {one.shard for one in loads if one.shards in (None, shards)}
    return own == set(range(shards)) and all(generation in one.generations for one in loads)


def _problem(loads: Sequence[ReplicaLoad], generation: str, *, force: bool) -> str | None:
    prefix = f"{generation}: "
    for one in loads:
        for line in (one.problem or "").splitlines():
            why = line.removeprefix(prefix)
            fewer = why.startswith(FEWER) and not force
            if line.startswith(prefix) and (fewer or generation not in one.generations):
                return f"shard {one.shard}, replica {one.replica}: {why}"
    return None
