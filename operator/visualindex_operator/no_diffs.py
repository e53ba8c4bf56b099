"""kopf's memory of what a resource looked like, emptied: whoever compares with children needs no diff of the resource.

It would cost a write per change, an annotation, and a deep copy of the resource at every event.
"""

from typing import Any

import kopf


class NoDiffs(kopf.DiffBaseStorage):
    """No resource ever differs from what kopf saw last."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """What kopf compares."""
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> kopf.BodyEssence:
        """What kopf compares it with."""
        return kopf.BodyEssence()

    def store(self, **_: Any) -> None:
        """Nothing is kept."""
