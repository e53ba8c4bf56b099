"""The hits of some queries as lists of images, without the image asked for and without what cannot be compared."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visualindex.ann import Hits
from visualindex.gate.opened import Opened


@dataclass(frozen=True)
class Answer:
    """The hits of one query, best first."""

    ids: list[bytes]
    scores: NDArray[np.float32]
    """Cosines, float32 [n]."""

    def first(self, count: int) -> "Answer":
        """The best `count` of them."""
        return Answer(self.ids[:count], self.scores[:count])


def answers(hits: Hits, own: NDArray[np.uint8], kept: NDArray[np.bool_]) -> list[Answer]:
    """For each query the hits, by `kept` bool [q, k], but its own image, uint8 [q, 16]."""
    return [_answer(hits, query, own[query].tobytes(), kept[query]) for query in range(len(hits.counts))]


def comparable(hits: Hits, one: Opened, other: Opened) -> NDArray[np.bool_]:
    """Which hits of either generation both hold, bool [q, k]; an image replaced between the two is another image."""
    shape = hits.ids.shape[:2]
    both = unchanged(hits.ids.reshape(-1, 16), one, other).reshape(shape)
    return both & (np.arange(shape[1]) < hits.counts[:, None])


def unchanged(ids: NDArray[np.uint8], one: Opened, other: Opened) -> NDArray[np.bool_]:
    """Which images, uint8 [m, 16], both generations hold, bool [m].

    A new version with a new vector is a new picture where the encoder is the same, and nobody knows where it is not.
    """
    first, second = one.holds(ids), other.holds(ids)
    both = first.there & second.there
    if one.fingerprint != other.fingerprint:
        return both
    same: NDArray[np.bool_] = (first.codes == second.codes).all(axis=1) | (first.versions == second.versions)
    return both & same


def _answer(hits: Hits, query: int, own: bytes, kept: NDArray[np.bool_]) -> Answer:
    places = [at for at in np.flatnonzero(kept).tolist() if hits.ids[query, at].tobytes() != own]
    return Answer([hits.ids[query, at].tobytes() for at in places], hits.scores[query, places])
