"""Asking a candidate and the active generation for the same images, each by the vectors that it knows of them."""

import statistics
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visualindex.ann import Hits
from visualindex.gate.answers import Answer, answers, comparable, unchanged
from visualindex.gate.measures import K
from visualindex.gate.opened import Opened
from visualindex.gate.own_images import OwnImages, own_images, recall_by_probe
from visualindex.gate.probes import Copies, Probes

_DEPTH = 50
"""Hits that are looked at, so that ten can be compared when the other generation lacks some of them."""
_TIMED = 64
"""Searches that are timed."""


@dataclass(frozen=True)
class Found:
    """What one generation answered."""

    generation: Opened
    own: OwnImages
    answers: list[Answer]
    """For the compared probes, or for all where there is nothing to compare with."""
    latency_ms: float | None


@dataclass(frozen=True)
class Asked:
    """What both answered."""

    probes: Probes
    compared: NDArray[np.int64]
    """The numbers of the probes that `answers` are for, int64 [q]."""
    candidate: Found
    active: Found | None
    recall: dict[int, float]
    """Recall@10 of the candidate by the number of the probe."""

    def hits(self) -> set[bytes]:
        """Every image in any answer."""
        lists = [*self.candidate.answers, *(self.active.answers if self.active else ())]
        return {hit for answer in lists for hit in answer.ids[:K]}


def ask(
    candidate: Opened, active: Opened | None, probes: Probes, copies: Copies, earlier: Copies | None
) -> Asked:
    """Ask everything. `copies` are for the candidate, `earlier` for the active one, whose encoder may be another."""
    recall = recall_by_probe(candidate, copies)
    own = own_images(candidate, probes, copies)
    if active is None:
        hits = candidate.ask(probes.vectors, _DEPTH + 1)
        filled = np.arange(hits.scores.shape[1]) < hits.counts[:, None]
        (latency,) = _latencies([(candidate, probes.vectors)])
        found = Found(candidate, own, answers(hits, probes.ids, filled), latency)
        return Asked(probes, np.arange(len(probes.ids)), found, None, recall)
    compared = np.flatnonzero(unchanged(probes.ids, candidate, active))
    ids, vectors = probes.ids[compared], probes.vectors[compared]
    before = active.vectors_of(ids)
    latency, latency_before = _latencies([(candidate, vectors), (active, before)])
    none = OwnImages(np.zeros(0, np.int64), np.zeros(0, np.int64))
    own_before = none if earlier is None else own_images(active, probes, earlier)
    after_hits, before_hits = _deep(candidate, vectors), _deep(active, before)
    after_answers = answers(after_hits, ids, comparable(after_hits, candidate, active))
    before_answers = answers(before_hits, ids, comparable(before_hits, active, candidate))
    pairs = [_of_one_length(*pair) for pair in zip(after_answers, before_answers, strict=True)]
    return Asked(
        probes,
        compared,
        Found(candidate, own, [after for after, _ in pairs], latency),
        Found(active, own_before, [before for _, before in pairs], latency_before),
        recall,
    )


def _of_one_length(after: Answer, before: Answer) -> tuple[Answer, Answer]:
    """The first ten of both, or as many as both have: where one found little that can be compared, so does the other."""
    count = min(K, len(after.ids), len(before.ids))
    return after.first(count), before.first(count)


def _deep(generation: Opened, vectors: NDArray[np.float32]) -> Hits:
    return generation.ask(vectors, _DEPTH + 1)


def _latencies(asked: list[tuple[Opened, NDArray[np.float32]]]) -> list[float | None]:
    """Median CPU milliseconds of one search of each, in turns: what slows the machine meanwhile slows both."""
    times: list[list[float]] = [[] for _ in asked]
    for query in range(min(_TIMED, len(asked[0][1]))):
        for place, (generation, vectors) in enumerate(asked):
            times[place].append(generation.took_ms(vectors[query], K))
    return [statistics.median(one) if one else None for one in times]
