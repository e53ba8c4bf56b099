"""How a generation finds its own images when it is asked for changed copies of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visualindex.ann import codes as half
from visualindex.gate.measures import NOT_FOUND, K, own_ranks, recalls
from visualindex.gate.opened import Opened
from visualindex.gate.probes import Copies, Probes


@dataclass(frozen=True)
class OwnImages:
    """The rank of the own image of each copy."""

    ranks: NDArray[np.int64]
    """From 1; 0: not among the first ten; int64 [c]."""
    of: NDArray[np.int64]
    """The probe that each copy was made of, int64 [c]."""

    def share(self, within: int) -> float | None:
        """The share of copies that find their image among the first `within`; None without copies."""
        found = (self.ranks != NOT_FOUND) & (self.ranks <= within)
        return float(np.mean(found)) if len(found) else None

    def worst(self) -> dict[int, int | None]:
        """By probe, the rank of the copy that fares worst; None where one is not found."""
        ranks = np.where(self.ranks == NOT_FOUND, K + 1, self.ranks)
        worst: dict[int, int | None] = {}
        for probe in np.unique(self.of).tolist():
            most = int(ranks[self.of == probe].max())
            worst[probe] = None if most > K else most
        return worst


def own_images(generation: Opened, probes: Probes, copies: Copies) -> OwnImages:
    """Ask the generation for the copies."""
    ids = probes.ids[copies.of]
    held = generation.holds(ids)
    similar = np.sum(copies.vectors * half.decode(held.codes), axis=1)
    scores = np.where(held.there, similar, -np.inf).astype(np.float32)
    return OwnImages(own_ranks(generation.ask(copies.vectors, K), ids, scores), copies.of)


def recall_by_probe(generation: Opened, copies: Copies) -> dict[int, float]:
    """The recall@10 of the first copy of each probe: an index finds what it holds more easily than what is like it."""
    probes, first = np.unique(copies.of, return_index=True)
    queries = copies.vectors[first]
    found = recalls(generation.ask(queries, K), generation.ask(queries, K, exact=True))
    return dict(zip(probes.tolist(), found.tolist(), strict=True))
