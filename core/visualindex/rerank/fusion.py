"""Weighs what reranking scores say against the first stage's score, by weights fitted on queries with known answers.

Scores of one kind are comparable within one query only, so each is standardised over the query's candidates first. What
is left is one weight per kind of score, fitted by the listwise softmax of ListNet (Cao et al., 2007), which is convex.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from visualindex.errors import ProblemError, ProblemType

Signal = npt.NDArray[np.float32]
"""float32[candidates]: one kind of score of each candidate of a query."""

FIRST_STAGE = "first_stage"
_VERSION = 1
_RIDGE = 1e-3
_STEPS = 50
_CLOSE = 1e-9


@dataclass(frozen=True)
class Fusion:
    """`weights` of the signals beside the first stage, whose weight is 1: a signal without a weight counts nothing."""

    weights: Mapping[str, float] = field(default_factory=lambda: {"maxsim": 1.0})

    def fused(self, first_stage: Signal, signals: Mapping[str, Signal]) -> Signal:
        """float32[candidates]: the standardised scores, weighed and added.

        A candidate whose signal is NaN (it has no patches yet) counts as the mean of the others: it keeps its place as
        far as the first stage alone says.
        """
        total = _standardised(first_stage)
        for name, weight in self.weights.items():
            if name in signals:
                total = total + np.float32(weight) * _standardised(signals[name])
        return np.asarray(total, np.float32)

    def to_json(self) -> dict[str, Any]:
        """As a JSON document."""
        return {"version": _VERSION, "weights": {k: round(float(v), 6) for k, v in self.weights.items()}}

    @classmethod
    def from_json(cls, document: Any) -> "Fusion":
        """Read `to_json`. Raises ProblemError INVALID_REQUEST saying what is wrong."""
        try:
            if document["version"] != _VERSION:
                raise ValueError(f"version {document['version']} is not {_VERSION}")
            weights = {str(name): float(weight) for name, weight in document["weights"].items()}
            if not all(np.isfinite(weight) for weight in weights.values()):
                raise ValueError("a weight is not finite")
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            shown = json.dumps(document, default=str)[:200]
            detail = f"{shown} are no rerank weights ({e}): fit them anew"
            raise ProblemError(ProblemType.INVALID_REQUEST, detail) from e
        return cls(weights)


@dataclass(frozen=True)
class Judged:
    """The candidates of one query: `scores` float32[candidates, signals], the first stage's in column 0, and which of
    them are `relevant`, bool[candidates]."""

    scores: npt.NDArray[np.float32]
    relevant: npt.NDArray[np.bool_]


def fit_fusion(names: Sequence[str], queries: Sequence[Judged]) -> Fusion:
    """Weights for the signals `names` (columns 1 …) that rank the relevant candidates of `queries` highest.

    A query without a relevant or an irrelevant candidate says nothing. Where no query says anything, or the first stage
    itself comes out as misleading, the default weights are given.
    """
    told = [
        (np.stack([_standardised(column) for column in query.scores.T], axis=1), _target(query.relevant))
        for query in queries
        if query.relevant.any() and not query.relevant.all()
    ]
    if not told:
        return Fusion()
    weights = _newton(told, 1 + len(names))
    if weights[0] <= 0:
        return Fusion()
    return Fusion({name: float(weights[n] / weights[0]) for n, name in enumerate(names, 1)})


_Told = Sequence[tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]]


def _newton(told: _Told, width: int) -> npt.NDArray[np.float64]:
    """The minimum of the mean cross-entropy plus a small ridge, by Newton's method with halved steps."""
    weights = np.zeros(width)
    loss = _loss(told, weights)
    for _ in range(_STEPS):
        gradient, curvature = _derivatives(told, weights)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while (after := _loss(told, weights - size * step)) > loss and size > _CLOSE:
            size /= 2
        weights, gained, loss = weights - size * step, loss - after, after
        if gained < _CLOSE:
            break
    return weights


def _loss(told: _Told, weights: npt.NDArray[np.float64]) -> float:
    each = [-(target @ _log_softmax(scores @ weights)) for scores, target in told]
    return float(np.mean(each) + _RIDGE / 2 * weights @ weights)


def _derivatives(
    told: _Told, weights: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    gradient, curvature = _RIDGE * weights, _RIDGE * np.eye(len(weights))
    for scores, target in told:
        likely = np.exp(_log_softmax(scores @ weights))
        centred = scores - likely @ scores
        gradient = gradient + scores.T @ (likely - target) / len(told)
        curvature = curvature + (centred.T * likely) @ centred / len(told)
    return gradient, curvature


def _log_softmax(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    shifted = values - values.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def _target(relevant: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    return np.asarray(relevant / relevant.sum(), np.float64)


def _standardised(signal: Signal) -> Signal:
    """To mean 0 and variance 1; what is not known (NaN) to 0, and all to 0 where they are equal."""
    known = np.isfinite(signal)
    if not known.any():
        return np.zeros_like(signal)
    centred = np.where(known, signal - signal[known].mean(), np.float32(0))
    spread = float(signal[known].std())
    return np.asarray(centred / spread if spread > _CLOSE else np.zeros_like(centred), np.float32)
