"""Whether two places hold the same: digests that tell cheaply, a comparison that tells exactly, and what is said of it."""

from visualindex.checking.comparing import Difference, Held, Sides, compared
from visualindex.checking.digests import BucketDigests
from visualindex.checking.findings import Finding, FindingKind, Report, in_short
from visualindex.checking.originals import Originals, split

__all__ = [
    "BucketDigests",
    "Difference",
    "Finding",
    "FindingKind",
    "Held",
    "Originals",
    "Report",
    "Sides",
    "compared",
    "in_short",
    "split",
]
