"""Vectors that are as hard to index as embeddings of pictures: clusters, each a low-dimensional cloud in many dimensions."""

import numpy as np

_CLUSTERS = 1000
_INTRINSIC = 32


def clustered(
    rows: int,
    dimension: int,
    seed: int,
    *,
    clusters: int = _CLUSTERS,
    intrinsic: int = _INTRINSIC,
) -> np.ndarray:
    """`rows` unit vectors of a mixture, float32 [rows, dimension]; the mixture depends on the dimension alone.

    Different seeds draw different rows from the same mixture: those of one seed are the collection, those of another its
    held-out queries. Clusters differ in size by Zipf's law, as the categories of a shop do, and in tightness. Within each,
    vectors vary along `intrinsic` directions of its own, less along each than along the one before, and a little in all.
    """
    mixture = np.random.default_rng(dimension)
    centres = mixture.standard_normal((clusters, dimension), np.float32)
    # Categories are related: their centres share directions too.
    centres = centres @ _directions(mixture, dimension, dimension, 2 * intrinsic)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    spread = mixture.uniform(0.5, 1.2, clusters).astype(np.float32)
    shares = 1 / np.arange(1, clusters + 1) ** 0.7
    random = np.random.default_rng((seed, dimension))
    member = np.sort(random.choice(clusters, rows, p=shares / shares.sum()))
    vectors = centres[member] + 0.02 * random.standard_normal((rows, dimension), np.float32)
    starts = np.searchsorted(member, np.arange(clusters + 1))
    decay = (1 / np.sqrt(1 + np.arange(intrinsic) / 8)).astype(np.float32)
    decay /= np.linalg.norm(decay)
    for cluster in range(clusters):
        span = _span(mixture, intrinsic, dimension)
        mine = slice(starts[cluster], starts[cluster + 1])
        inner = random.standard_normal((starts[cluster + 1] - starts[cluster], intrinsic), np.float32)
        vectors[mine] += spread[cluster] * (inner * decay) @ span
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors[random.permutation(rows)].astype(np.float32)


def _span(random: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    """`count` random unit vectors, nearly orthogonal in many dimensions, float32 [count, dimension]."""
    span = random.standard_normal((count, dimension), np.float32)
    return span / np.linalg.norm(span, axis=1, keepdims=True)


def _directions(random: np.random.Generator, rows: int, dimension: int, rank: int) -> np.ndarray:
    """A projection to a random subspace of `rank` dimensions, float32 [rows, dimension]."""
    return _span(random, rank, rows).T @ _span(random, rank, dimension)


def intrinsic_dimension(vectors: np.ndarray, neighbours: int = 20, sample: int = 500) -> float:
    """Maximum-likelihood estimate of the intrinsic dimension (Levina and Bickel, NIPS 2004) from distances to neighbours."""
    asked = vectors[:sample]
    distances = np.sqrt(np.maximum(0, 2 - 2 * asked @ vectors.T))
    nearest = np.sort(np.partition(distances, neighbours + 1, axis=1)[:, : neighbours + 1], axis=1)[:, 1:]
    nearest = np.maximum(nearest, 1e-6)
    each = (neighbours - 1) / np.log(nearest[:, -1:] / nearest[:, :-1]).sum(axis=1)
    return float(1 / np.mean(1 / each))
