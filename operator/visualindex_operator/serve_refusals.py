"""Ray's reason for refusing a configuration, fit for a condition: short, and without what the configuration holds.

On an external cluster the configuration carries secrets, and Ray's validation quotes its input.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from visualindex_operator.serve_environments import environment_values

_QUOTED_INPUT = re.compile(r", input_value=.*?, input_type=\w+\]", re.DOTALL)
_MOST = 500


def reason_in(answer: str, config: Mapping[str, Any]) -> str:
    """What an answer with status 400 says about the configuration that was sent."""
    text = _QUOTED_INPUT.sub("]", answer)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("For further information")]
    if any(line.startswith("Traceback") for line in lines):
        lines = lines[-1:]
    reason = _without(_secrets(config), "; ".join(lines))
    return reason if len(reason) <= _MOST else f"{reason[:_MOST]}…"


def _without(secrets: Iterator[str], text: str) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "…")
    return text


def _secrets(config: Mapping[str, Any]) -> Iterator[str]:
    """Values of environment variables, except those too short to be one."""
    return (text for value in environment_values(config) if len(text := str(value)) > 5)
