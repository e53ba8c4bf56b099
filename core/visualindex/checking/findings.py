"""What a check finds, in the words that programs and people read."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

EXAMPLES = 20
"""Most examples that a finding names."""


class FindingKind(StrEnum):
    """What is wrong. docs/consistency-check.md explains each."""

    LOST_ROW = "lost-row"
    STRAY_VECTOR = "stray-vector"
    STALE_ROW = "stale-row"
    DAMAGED_VECTOR = "damaged-vector"
    MISSING_VECTOR = "missing-vector"
    MISSING_ORIGINAL = "missing-original"
    DAMAGED_ORIGINAL = "damaged-original"
    ORPHANED_ORIGINAL = "orphaned-original"
    MISSING_MANIFEST = "missing-manifest"
    MISSING_PART = "missing-part"
    DAMAGED_PART = "damaged-part"
    ABANDONED_GENERATION = "abandoned-generation"
    NO_ANSWER = "no-answer"


@dataclass(frozen=True)
class Finding:
    """One kind of fault in one place: how often, for example where, and what was done."""

    kind: FindingKind
    place: str
    count: int
    mended: int = 0
    examples: tuple[str, ...] = ()
    action: str = ""
    """What was done, or what a person has to do."""

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "examples": list(self.examples[:EXAMPLES])}


@dataclass
class Report:
    """All of one check."""

    repair: bool
    images: int = 0
    originals: int = 0
    originals_read: int = 0
    """Of these, the ones whose bytes were compared with their digests."""
    replicas: int = 0
    """Views of replicas that were compared: each replica has one of every generation it holds."""
    buckets_compared: int = 0
    """Buckets whose digests differed, so that their rows were compared."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def found(self) -> int:
        """Faults, mended ones among them."""
        return sum(one.count for one in self.findings)

    @property
    def mended(self) -> int:
        """Faults that are no more."""
        return sum(one.mended for one in self.findings)

    def to_json(self) -> dict[str, Any]:
        """As JSON values; `consistent` says whether no fault is left."""
        return {
            "consistent": self.found == self.mended,
            "repair": self.repair,
            "images": self.images,
            "originals": self.originals,
            "originals_read": self.originals_read,
            "replicas": self.replicas,
            "buckets_compared": self.buckets_compared,
            "found": self.found,
            "mended": self.mended,
            "findings": [one.to_json() for one in self.findings],
        }


def in_short(report: Mapping[str, Any]) -> str:
    """A report's faults that are left, in half a sentence: `3 lost-row in shard 0, replica a1`."""
    left = [one for one in report["findings"] if one["count"] > one["mended"]]
    parts = [f"{one['count'] - one['mended']} {one['kind']} in {one['place']}" for one in left]
    return "; ".join(parts)
