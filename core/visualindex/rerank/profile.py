"""What is kept of a measurement of reranking with an index: the fitted weights, and whether they were worth it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from visualindex.errors import ProblemError, ProblemType
from visualindex.rerank.fusion import Fusion
from visualindex.rerank.verdict import Decision


@dataclass(frozen=True)
class Profile:
    """Weights that were fitted on patches of `features` (a fingerprint), and the verdict; `on` without any is False.

    `images` is how many images the index had then.
    """

    features: str
    fusion: Fusion
    on: bool
    verdict: Mapping[str, Any]
    images: int = 0

    @classmethod
    def of(cls, features: str, fusion: Fusion, decision: Decision, images: int = 0) -> "Profile":
        """The profile of a measurement."""
        return cls(features, fusion, decision.on, _finite(asdict(decision)), images)

    def to_json(self) -> dict[str, Any]:
        """As a JSON document, for `Catalog.set_rerank_profile`."""
        return {
            "features": self.features,
            "fusion": self.fusion.to_json(),
            "on": self.on,
            "verdict": dict(self.verdict),
            "images": self.images,
        }

    @classmethod
    def from_json(cls, document: Any) -> "Profile":
        """Read `to_json`. Raises ProblemError INVALID_REQUEST saying what is wrong."""
        try:
            fusion = Fusion.from_json(document["fusion"])
            verdict, images = dict(document["verdict"]), int(document.get("images", 0))
            return cls(str(document["features"]), fusion, document["on"] is True, verdict, images)
        except (KeyError, TypeError, ValueError) as e:
            detail = (
                f"the index's rerank profile cannot be read ({type(e).__name__}: {e}): measure reranking anew"
            )
            raise ProblemError(ProblemType.INVALID_REQUEST, detail) from e


def _finite(value: Any) -> Any:
    """JSON knows no NaN, which is the gain where nothing could be measured: null."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
