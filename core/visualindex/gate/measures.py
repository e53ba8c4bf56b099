"""The measures of the gate, each of one query at a time, so that those which got worse can be named."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from visualindex.ann import Hits
from visualindex.gate.answers import Answer

K = 10
_SAME = 1e-4  # of cosines in half precision: two images of one picture answer alike
NOT_FOUND = 0


def recalls(found: Hits, exact: Hits) -> NDArray[np.float64]:
    """The share of each query's exact hits that were found, float64 [q]; of rows that tie with the last any is as good."""
    counts = np.minimum(exact.counts, K)
    last = np.take_along_axis(exact.scores, np.maximum(counts - 1, 0)[:, None], axis=1)
    good = np.count_nonzero((found.scores >= last) & np.isfinite(found.scores), axis=1)
    return np.where(counts > 0, np.minimum(good, counts) / np.maximum(counts, 1), 1.0)


def own_ranks(found: Hits, own: NDArray[np.uint8], own_scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Where each query finds its own image, uint8 [q, 16], counted from 1, int64 [q]; 0: not at all.

    `own_scores`, float32 [q], say how similar that image is: one that scores the same is the same picture; -inf where
    the generation lacks the image.
    """
    filled = np.arange(found.scores.shape[1]) < found.counts[:, None]
    itself = (found.ids == own[:, None]).all(axis=2) & filled
    alike = (np.abs(found.scores - own_scores[:, None]) <= _SAME) & filled
    better = np.count_nonzero((found.scores > own_scores[:, None] + _SAME) & filled, axis=1)
    return np.where((itself | alike).any(axis=1), better + 1, NOT_FOUND).astype(np.int64)


def overlap(one: Answer, other: Answer) -> float | None:
    """The share that two answers of one length have in common; None where they are empty."""
    return len(set(one.ids) & set(other.ids)) / len(one.ids) if one.ids else None


def mean_score(answer: Answer) -> float | None:
    """The mean score of the first ten, a cosine; None without hits."""
    first = answer.scores[:K]
    return float(np.mean(first)) if len(first) else None


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of what could be measured; None where nothing could."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def loss(before: Sequence[float | None], after: Sequence[float | None]) -> tuple[float, float] | None:
    """The mean loss of what was measured twice of each query, and its standard error; None where nothing was."""
    pairs = zip(before, after, strict=True)
    lost = [b - a for b, a in pairs if b is not None and a is not None]
    if not lost:
        return None
    return float(np.mean(lost)), float(np.std(lost)) / len(lost) ** 0.5
