"""What the replicas of an index say together: whether all of them have a generation, or why one cannot have it."""

from collections.abc import Iterator, Sequence

from visualindex.catalog.replicas import ReplicaLoad

FEWER = "it would find fewer images"
"""How a replica's problem begins with a generation that it has loaded, but not whole."""


def everywhere(loads: Sequence[ReplicaLoad], generation: str, shards: int) -> bool:
    """Whether every one of so many shards has replicas, and all replicas that there are have loaded the generation.

    Those of another number of shards count as well: while that changes, gateways of both ask for the same generation.
    """
    own = {one.shard for one in loads if one.shards in (None, shards)}
    return own == set(range(shards)) and all(generation in one.generations for one in loads)


def unloadable(loads: Sequence[ReplicaLoad], generation: str) -> str | None:
    """What keeps a replica from loading the generation, for people."""
    return next((told for one, told in _told(loads, generation) if generation not in one.generations), None)


def short_of_images(loads: Sequence[ReplicaLoad], generation: str) -> str | None:
    """Why a replica that has loaded the generation would find fewer images with it than with the active one, for people."""
    loaded = [one for one in loads if generation in one.generations]
    return next((told for _, told in _told(loaded, generation, FEWER)), None)


def _told(
    loads: Sequence[ReplicaLoad], generation: str, beginning: str = ""
) -> Iterator[tuple[ReplicaLoad, str]]:
    prefix = f"{generation}: "
    for one in loads:
        for line in (one.problem or "").splitlines():
            if line.startswith(prefix + beginning):
                yield one, f"shard {one.shard}, replica {one.replica}: {line.removeprefix(prefix)}"
