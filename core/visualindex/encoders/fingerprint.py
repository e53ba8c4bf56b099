"""Names the space a vector lives in: vectors of two fingerprints must never meet in one search."""

import hashlib
import json
from pathlib import Path
from typing import Any

_HEX_DIGITS = 16


def fingerprint(facts: dict[str, Any]) -> str:
    """16 hex digits over `facts` (JSON values); the order of keys does not matter."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_HEX_DIGITS]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
