"""Whether reranking helped: an interval around the mean gain, and the rule that only a gain which is sure counts."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Gains = npt.NDArray[np.float64]
"""float64[queries]: a measure after reranking less the same before it, query by query."""

_RESAMPLES = 2000
_LEAST_QUERIES = 30


@dataclass(frozen=True)
class Interval:
    """A mean and the ends of its 95 % confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Decision:
    """Whether to rerank, by the measured gain; `reason` says it in a sentence."""

    on: bool
    gain: Interval
    queries: int
    reason: str


def bootstrap(values: npt.NDArray[np.floating], *, resamples: int = _RESAMPLES, seed: int = 0) -> Interval:
    """The mean of float[n] with its 95 % percentile bootstrap interval over n (Efron, 1979); repeats with `seed`.

    Without values all three are NaN.
    """
    wide = np.asarray(values, np.float64)
    if not len(wide):
        return Interval(np.nan, np.nan, np.nan)
    rng = np.random.default_rng(seed)
    # A draw with replacement is a multinomial count per query: one small product instead of a gather.
    counts = rng.multinomial(len(wide), np.full(len(wide), 1 / len(wide)), resamples)
    low, high = np.percentile(counts @ wide / len(wide), (2.5, 97.5))
    return Interval(float(wide.mean()), float(low), float(high))


def worth_it(gains: Gains) -> Decision:
    """On only where the lower end of the gain's 95 % interval is above 0, on queries that fitted nothing.

    Fewer than 30 queries say nothing, so reranking stays off.
    """
    gain = bootstrap(gains)
    if len(gains) < _LEAST_QUERIES:
        reason = f"off: {len(gains)} held-out queries are too few to tell, {_LEAST_QUERIES} are needed"
        return Decision(False, gain, len(gains), reason)
    on = gain.low > 0
    interval = f"{gain.mean:+.3f} (95 % interval {gain.low:+.3f} to {gain.high:+.3f})"
    why = "is surely a gain" if on else "is not surely a gain"
    return Decision(on, gain, len(gains), f"{'on' if on else 'off'}: {interval} on held-out queries {why}")
