"""What searches of index families are tried with: queries near the rows, and masks of any share."""

import numpy as np
from benchmarks.vectors import clustered


def queries(count: int, dimension: int) -> np.ndarray:
    return clustered(count, dimension, seed=1, clusters=60)


def kept(share: float, rows: int) -> np.ndarray:
    return np.random.default_rng(int(share * 1000)).random(rows) < share


def recall(scores: np.ndarray, exact: np.ndarray) -> float:
    return float(np.mean(scores >= exact[:, -1:]))
