"""What the replicas of an index say together: whether all of them have a generation, or why one cannot have it."""

from collections.abc import Sequence

from visualindex.catalog.replicas import ReplicaLoad


def everywhere(loads: Sequence[ReplicaLoad], generation: str, shards: int) -> bool:
    """Whether every one of so many shards has replicas, and all replicas that there are have loaded the generation.

    Those of another number of shards count as well: while that changes, gateways of both ask for the same generation.
    """
    own = {one.shard for one in loads if one.shards in (None, shards)}
    return own == set(range(shards)) and all(generation in one.generations for one in loads)


def unloadable(loads: Sequence[ReplicaLoad], generation: str) -> str | None:
    """What keeps a replica from loading the generation, for people."""
    prefix = f"{generation}: "
    for one in loads:
        for line in (one.problem or "").splitlines():
            if line.startswith(prefix) and generation not in one.generations:
                return f"shard {one.shard}, replica {one.replica}: {line.removeprefix(prefix)}"
    return None
