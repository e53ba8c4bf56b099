"""What travels between gateway and reranker."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from visualindex_serving.messages import Float32, UInt8


@dataclass(frozen=True)
class RerankQuery:
    """The candidates of one search, best first.

    `ids` is uint8[n, 16], `scores` float32[n] of the first stage, `versions` int64[n] of the images as the shards have
    them. The query's own packed patches are `patches` (`Packed.row_bytes`), or those of the indexed image `image`.
    `features` is the fingerprint of the patches, `profile` the index's measurement (`Profile.to_json`) or None.
    `deadline` is in seconds since the epoch.
    """

    features: str
    patches: bytes | None
    image: bytes | None
    ids: UInt8
    scores: Float32
    versions: npt.NDArray[np.int64]
    profile: dict[str, Any] | None
    deadline: float


@dataclass(frozen=True)
class RerankAnswer:
    """`order` int64[n]: places of the candidates, best first; `scores` float32[n] in that order.

    `known` counts the candidates that have patches: with none, or where the query has none, the order is as it came.
    """

    order: npt.NDArray[np.int64]
    scores: Float32
    known: int
    query_known: bool
