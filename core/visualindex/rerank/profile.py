"""What is kept of a measurement of reranking with an index: the fitted weights, and whether they were worth it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from visualindex.errors import ProblemError, ProblemType
from visualindex.rerank.fusion import Fusion
from visualindex.rerank.verdict import Decision


@dataclass(frozen=True)
class Profile:
    """Weights that were fitted on patches of `features` (a fingerprint), and the verdict; `on` without any is False."""

    features: str
    fusion: Fusion
    on: bool
    verdict: Mapping[str, Any]

    @classmethod
    def of(cls, features: str, fusion: Fusion, decision: Decision) -> "Profile":
        """The profile of a measurement."""
        return cls(features, fusion, decision.on, asdict(decision))

    def to_json(self) -> dict[str, Any]:
        """As a JSON document, for `Catalog.set_rerank_profile`."""
        return {
            "features": self.features,
            "fusion": self.fusion.to_json(),
            "on": self.on,
            "verdict": dict(self.verdict),
        }

    @classmethod
    def from_json(cls, document: Any) -> "Profile":
        """Read `to_json`. Raises ProblemError INVALID_REQUEST saying what is wrong."""
        try:
            fusion = Fusion.from_json(document["fusion"])
            return cls(str(document["features"]), fusion, document["on"] is True, dict(document["verdict"]))
        except (KeyError, TypeError, ValueError) as e:
            detail = (
                f"the index's rerank profile cannot be read ({type(e).__name__}: {e}): measure reranking anew"
            )
            raise ProblemError(ProblemType.INVALID_REQUEST, detail) from e
