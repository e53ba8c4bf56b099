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
    if _is_number(wanted):
        return bool(live != wanted) if _is_number(live) else str(live) != str(wanted)
    if wanted in (
        None,
        "",
    ):  # the API server leaves out what is empty, but not an empty mapping: that is a statement
        return bool(live)
    return bool(live != wanted)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
