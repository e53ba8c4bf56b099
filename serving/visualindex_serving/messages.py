"""What travels between gateway, encoder and shards: arrays and numbers, never lists of objects."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ShardQuery:
    """A batch of searches for one shard.

    `vectors` is float32[q, d], L2-normalised. `deadline` is in seconds since the epoch. `token` or `strong` make the
    shard catch up first, for at most `wait_s`.
    """

    vectors: Float32
    k: int
    filter: dict[str, Any] | None
    exclude: tuple[bytes, ...]
    deadline: float
    token: str | None = None
    strong: bool = False
    wait_s: float = 0.0


@dataclass(frozen=True)
class ShardAnswer:
    """A shard's hits: `ids` uint8[q, k, 16], `scores` float32[q, k], `counts` int64[q] valid entries per query, and
    `versions` int64[q, k] of the images as the shard has them.

    `behind_s` is set instead of hits when the shard could not catch up in time: the age of its position.
    `replica` names who answered, as in the index's list of replicas.
    """

    ids: UInt8
    scores: Float32
    counts: npt.NDArray[np.int64]
    versions: npt.NDArray[np.int64]
    rows: int
    cpu_ms: float
    behind_s: float | None = None
    replica: str = ""
