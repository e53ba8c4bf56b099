"""Measures on an index's own pictures whether reranking helps: fitted on one half of them, judged on the other.

The queries are pictures of the index, changed (`augmentations`), whose answer is known without anybody labelling anything.
Queries made of one picture stay in one half, or the weights would be judged on what they were fitted on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from visualindex.rerank.fusion import Fusion, Judged, fit_fusion
from visualindex.rerank.verdict import Decision, Gains, worth_it


@dataclass(frozen=True)
class Trial:
    """The weights that one half fitted, and what they gained on the other: a share of queries answered first."""

    fusion: Fusion
    decision: Decision


def run_trial(names: Sequence[str], queries: Sequence[Judged], pictures: Sequence[int]) -> Trial:
    """Fit the signals `names` (columns 1 … of `Judged.scores`) on half of the pictures and judge on the other half.

    `pictures` names the picture that each query was made of. A picture counts once, by the mean over its queries.
    """
    of = np.asarray(pictures, np.int64)
    fitting = halves(of)
    fusion = fit_fusion(names, [query for query, fits in zip(queries, fitting, strict=True) if fits])
    judged = [place for place, fits in enumerate(fitting) if not fits]
    gains = np.array([first_gain(fusion, names, queries[place]) for place in judged])
    return Trial(fusion, worth_it(per_picture(gains, of[judged])))


def halves(pictures: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """bool[n]: whether a query of that picture is fitted on; the same pictures fall the same way every time."""
    rng = np.random.default_rng(0)
    distinct = np.unique(pictures)
    chosen = rng.permutation(distinct)[: len(distinct) // 2]
    return np.isin(pictures, chosen)


def first_gain(fusion: Fusion, names: Sequence[str], query: Judged) -> float:
    """1 where reranking brings a relevant candidate to the first place, -1 where it takes one from it, else 0."""
    fused = fusion.fused(query.scores[:, 0], {name: query.scores[:, n] for n, name in enumerate(names, 1)})
    before, after = query.scores[:, 0].argmax(), fused.argmax()
    return float(query.relevant[after]) - float(query.relevant[before])


def per_picture(values: npt.NDArray[np.float64], pictures: npt.NDArray[np.int64]) -> Gains:
    """The mean of the values of each picture: queries made of one picture are not independent of each other."""
    distinct, at = np.unique(pictures, return_inverse=True)
    sums = np.bincount(at, weights=values, minlength=len(distinct))
    return np.asarray(sums / np.maximum(np.bincount(at, minlength=len(distinct)), 1), np.float64)
