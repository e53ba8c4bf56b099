"""What travels between gateway, encoder and shards: arrays and numbers, never lists of objects."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]
Value = str | int | float | tuple[str, bool]
"""A value of an attribute; a boolean is wrapped, for `True` and `1` are one key to Python."""


@dataclass(frozen=True)
class Group:
    """At most `size` hits for each value of a field."""

    field: str
    size: int


@dataclass(frozen=True)
class Sort:
    """Hits in the order of a field's value; `after` is the value (None: without one) and id of the last hit shown."""

    field: str
    direction: Literal["asc", "desc"]
    after: tuple[Value | None, bytes] | None = None
    times: bool = False
    """Whether values count as points in time: `after` and what the shards answer are microseconds since 1970."""


@dataclass(frozen=True)
class ShardQuery:
    """A batch of searches for one shard.

    `vectors` is float32[q, d], L2-normalised. `deadline` is in seconds since the epoch. `token` or `strong` make the
    shard catch up first, for at most `wait_s`. `generation` is the one to search, empty for the active one. Grouping,
    sorting and facets take one vector.
    """

    vectors: Float32
    k: int
    filter: dict[str, Any] | None
    exclude: tuple[bytes, ...]
    deadline: float
    token: str | None = None
    strong: bool = False
    wait_s: float = 0.0
    generation: str = ""
    min_score: float | None = None
    facets: tuple[str, ...] = ()
    group: Group | None = None
    sort: Sort | None = None
    explain: bool = False
    background: bool = False
    """Nobody waits for the answer: it gives way to every other search."""


@dataclass(frozen=True)
class ShardAnswer:
    """A shard's hits: `ids` uint8[q, k, 16], `scores` float32[q, k], `counts` int64[q] valid entries per query, and
    `versions` int64[q, k] of the images as the shard has them.

    `age_s` is how long ago the shard looked into the change log. `behind_s` is set instead of hits when the shard could
    not catch up in time: the age of its position.
    `replica` names who answered, as in the index's list of replicas, and `generation` what was searched. `matches` are
    the images that pass the filter, `keys` the value that grouped or sorted each hit, `facets` how many images have
    each value.
    """

    ids: UInt8
    scores: Float32
    counts: npt.NDArray[np.int64]
    versions: npt.NDArray[np.int64]
    rows: int
    cpu_ms: float
    behind_s: float | None = None
    age_s: float = math.inf
    replica: str = ""
    generation: str = ""
    matches: int = 0
    keys: list[Value | None] = field(default_factory=list)
    facets: dict[str, list[tuple[Value, int]]] = field(default_factory=dict)
    plans: list[dict[str, Any]] = field(default_factory=list)
    full: bool = False
    """Whether images of the shard are left out because they do not fit into its memory."""
