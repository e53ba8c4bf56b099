"""MaxSim: how well each patch of one picture is met by its best match in another, wherever that lies.

Late interaction as in ColBERT (Khattab & Zaharia, 2020, arXiv:2004.12832), on patches of pictures instead of tokens.
"""

import numpy as np
import numpy.typing as npt

from visualindex.rerank.patches import Packed

Scores = npt.NDArray[np.float32]

_BLOCK = 4
"""Candidates per matrix product: the similarities of a block then stay in the second-level cache until they are reduced."""


def maxsim(query: Packed, candidates: Packed, *, both: bool = False) -> Scores:
    """float32[n]: the mean over the query's patches of their greatest cosine with a patch of each candidate, -1 … 1.

    `query` is one picture (n = 1). With `both` the mean of both directions, which is symmetric (the chamfer
    similarity). Raises ValueError when the widths differ.
    """
    codes, width = candidates.codes, candidates.codes.shape[2]
    if query.codes.shape[2] != width:
        raise ValueError(
            f"the query's patches have width {query.codes.shape[2]}, the candidates' {width}: "
            "both must be packed by one projection"
        )
    rows = query.codes[0].astype(np.float32)
    sums = np.empty(len(codes), np.float32)
    for start in range(0, len(codes), _BLOCK):
        block = codes[start : start + _BLOCK]
        sums[start : start + _BLOCK] = _block(rows, block.astype(np.float32), both=both)
    scales = candidates.scales.astype(np.float32) * np.float32(query.scales[0])
    return sums * scales


def _block(rows: npt.NDArray[np.float32], block: npt.NDArray[np.float32], *, both: bool) -> Scores:
    n, patches, width = block.shape
    similar = (block.reshape(-1, width) @ rows.T).reshape(n, patches, -1)
    forth = similar.max(axis=1).mean(axis=1)
    if not both:
        return np.asarray(forth, np.float32)
    return np.asarray((forth + similar.max(axis=2).mean(axis=1)) / 2, np.float32)
