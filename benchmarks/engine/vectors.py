"""The data of a run: vectors, one attribute of each, queries held out, and what exact search finds; kept as .npy files.

Every engine reads the same folder, from whatever environment it runs in, so this module needs numpy alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Numbers = NDArray[np.int64]

TOP = 10
SHARE = 0.01
"""The share of the rows that a filtered search leaves."""

_CLUSTERS = 400
_CENTRE_RANK = 64
_RANK = 48
_NOISE = 0.02
_SCANNED = 64


@dataclass(frozen=True)
class Dataset:
    """What engines are given. Rows are numbered from 0; spare vectors are inserted one by one after the build.

    `vectors` is float32[n, d], `spare` float32[s, d] and `queries` float32[q, d], L2-normalised; `labels` int64[n] is the
    attribute, `asked` int64[q] the label that the filtered search of each query asks for; `truth` and `filtered_truth` are
    int64[q, 10], the rows that exact search finds, -1 beyond the last.
    """

    vectors: Vectors
    labels: Numbers
    spare: Vectors
    queries: Vectors
    asked: Numbers
    truth: Numbers
    filtered_truth: Numbers

    @classmethod
    def read(cls, folder: Path) -> "Dataset":
        """The data set written to `folder`."""
        return cls(**{name: np.load(folder / f"{name}.npy") for name in cls.__dataclass_fields__})

    def write(self, folder: Path) -> None:
        """One file for each array."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in self.__dataclass_fields__:
            np.save(folder / f"{name}.npy", getattr(self, name))


def divided(vectors: Vectors, labels: Numbers, *, queries: int, spare: int, seed: int) -> Dataset:
    """Hold out queries and spare vectors at random, and search the rest exactly.

    `vectors` is float32[n + queries + spare, d]. A filtered search asks for one of the labels whose share is about 1 %,
    drawn at random, so independent of the query.
    """
    order = np.random.default_rng(seed).permutation(len(vectors))
    held, extra, rows = np.split(order, [queries, queries + spare])
    asked = np.random.default_rng(seed + 1).choice(_nearest_to_share(labels[rows]), queries)
    found = list(_exact(vectors[rows], labels[rows], vectors[held], asked))
    plain, filtered = (np.array([pair[side] for pair in found]) for side in (0, 1))
    return Dataset(vectors[rows], labels[rows], vectors[extra], vectors[held], asked, plain, filtered)


def _nearest_to_share(labels: Numbers) -> Numbers:
    """The labels that single out 0.7 to 1.5 % of the rows, or the one nearest to that."""
    names, counts = np.unique(labels, return_counts=True)
    off = np.abs(np.log(counts / len(labels) / SHARE))
    near = names[off < np.log(1.5)]
    return near if len(near) else names[[np.argmin(off)]]


def _exact(
    vectors: Vectors, labels: Numbers, queries: Vectors, asked: Numbers
) -> Iterator[tuple[Numbers, Numbers]]:
    """The rows of the ten highest scores for each query, among all rows and among those of its label."""
    for at in range(0, len(queries), _SCANNED):
        scores = queries[at : at + _SCANNED] @ vectors.T
        for row, label in zip(scores, asked[at : at + _SCANNED], strict=True):
            survivors = np.flatnonzero(labels == label)
            yield _best(row), _padded(survivors[_best(row[survivors])])


def _best(scores: Vectors) -> Numbers:
    count = min(TOP, len(scores))
    top = np.argpartition(scores, len(scores) - count)[len(scores) - count :]
    ordered: Numbers = top[np.argsort(-scores[top], kind="stable")]
    return ordered


def _padded(rows: Numbers) -> Numbers:
    return np.concatenate([rows, np.full(TOP - len(rows), -1, np.int64)])


def recall(found: Numbers, truth: Numbers) -> float:
    """Mean share of the true rows that were found: both int64[q, 10], -1 where there is none."""
    shares = [
        len(set(hits.tolist()) & set(best.tolist()) - {-1}) / max(1, int((best >= 0).sum()))
        for hits, best in zip(found, truth, strict=True)
    ]
    return float(np.mean(shares))


def clustered(rows: int, dimension: int, seed: int = 11) -> tuple[Vectors, Numbers]:
    """A mixture of 400 low-rank Gaussians on the unit sphere: float32[rows, dimension], and labels int64[rows] below 100.

    Centres lie in one 64-dimensional subspace, as the classes of an encoder do. Around its centre each cluster spreads in
    48 random directions of its own whose deviations fall as 1/sqrt(rank), with noise of 2 % in all directions; sizes are
    uneven (Pareto). `dimension` is to be well above 48. What it is tells little of how hard the search is:
    `intrinsic_dimension` does.
    """
    random = np.random.default_rng(seed)
    centres = _directions(random, _CLUSTERS, _CENTRE_RANK) @ _directions(random, _CENTRE_RANK, dimension)
    weights = random.pareto(1.5, _CLUSTERS) + 0.2
    member = random.choice(_CLUSTERS, rows, p=weights / weights.sum())
    vectors = np.empty((rows, dimension), np.float32)
    deviations = (0.9 / np.sqrt(np.arange(1, _RANK + 1)) / np.sqrt(np.log(_RANK))).astype(np.float32)
    for cluster in range(_CLUSTERS):
        mine = np.flatnonzero(member == cluster)
        spread = random.standard_normal((len(mine), _RANK), np.float32) * deviations
        vectors[mine] = centres[cluster] + spread @ _directions(random, _RANK, dimension)
    for at in range(0, rows, 50_000):
        part = vectors[at : at + 50_000]
        part += _NOISE / np.sqrt(dimension) * random.standard_normal(part.shape, np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return vectors, random.integers(0, 100, rows)


def _directions(random: np.random.Generator, count: int, dimension: int) -> Vectors:
    """Unit rows, nearly orthogonal where they are far fewer than dimensions: float32[count, dimension]."""
    drawn = random.standard_normal((count, dimension), np.float32)
    unit: Vectors = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit


def intrinsic_dimension(vectors: Vectors, sampled: int = 1000, seed: int = 5) -> float:
    """The maximum-likelihood estimate from the ratio of each row's two nearest distances.

    TwoNN: Facco, d'Errico, Rodriguez, Laio, "Estimating the intrinsic dimension of datasets by a minimal neighborhood
    information", Scientific Reports 7 (2017). `vectors` is float32[n, d], L2-normalised; rows equal to another are left out.
    """
    chosen = np.random.default_rng(seed).choice(len(vectors), min(sampled, len(vectors)), replace=False)
    ratios = []
    for at in range(0, len(chosen), _SCANNED):
        part = chosen[at : at + _SCANNED]
        scores = vectors[part] @ vectors.T
        scores[np.arange(len(part)), part] = -2.0
        two = -np.partition(-scores, 1, axis=1)[:, :2]
        near, next_ = np.sqrt(np.maximum(2 - 2 * two.T.astype(np.float64), 0))
        ratios.append(next_[near > 1e-3] / near[near > 1e-3])
    logs = np.log(np.concatenate(ratios))
    return float(len(logs) / logs.sum())
