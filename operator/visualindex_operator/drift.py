"""Whether a live object is as it was wanted: everything wanted is in it; what others added does not matter."""

from typing import Any


def lacks(live: Any, wanted: Any) -> bool:
    """Whether `live` differs from `wanted` in anything that `wanted` states."""
    if isinstance(wanted, dict):
        if not isinstance(live, dict):
            return True
        return any(lacks(live.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        if not isinstance(live, list) or len(live) != len(wanted):
            return bool(wanted) or bool(live)
        return any(lacks(one, other) for one, other in zip(live, wanted, strict=True))
    if isinstance(wanted, (int, float)) and not isinstance(wanted, bool):
        return str(live) != str(wanted)
    return bool(live != wanted) and not (wanted in ({}, None, "") and not live)
