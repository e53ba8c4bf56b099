"""Which hits are relevant: by what people did with the hits of the same image, or else by its category."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from visualindex.gate.answers import Answer
from visualindex.gate.measures import K

ENOUGH = 20
"""Labelled probes from which on a precision says something."""


class Labels(Protocol):
    """Says how good an answer is."""

    @property
    def source(self) -> Literal["feedback", "category"]:
        """Where relevance comes from."""

    def precision(self, image_id: bytes, answer: Answer) -> float | None:
        """The share of the first ten that are relevant to an image; None where nothing is known of it."""


@dataclass(frozen=True)
class FeedbackLabels:
    """Hits that people found relevant, by the image they searched with; others may be relevant too, and nobody said so."""

    relevant: Mapping[bytes, frozenset[bytes]]
    source: Literal["feedback", "category"] = "feedback"

    def precision(self, image_id: bytes, answer: Answer) -> float | None:
        """The share of the relevant images that can be among the first ten and are."""
        known = self.relevant.get(image_id)
        if not known:
            return None
        return len(known.intersection(answer.ids[:K])) / min(K, len(known))


@dataclass(frozen=True)
class CategoryLabels:
    """A hit is relevant when it has the category of the image."""

    categories: Mapping[bytes, str]
    source: Literal["feedback", "category"] = "category"

    def precision(self, image_id: bytes, answer: Answer) -> float | None:
        """The share of the first ten that have the image's category."""
        own, first = self.categories.get(image_id), answer.ids[:K]
        if own is None or not first:
            return None
        return sum(self.categories.get(hit) == own for hit in first) / len(first)
