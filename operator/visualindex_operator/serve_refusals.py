"""Ray's reason for refusing a configuration, fit for a condition: short, and without what the configuration holds.

On an external cluster the configuration carries secrets, and Ray's validation quotes its input.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

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


def _secrets(node: Any) -> Iterator[str]:
    """Values of environment variables, except those too short to be one."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "env_vars" and isinstance(value, Mapping):
                yield from (str(secret) for secret in value.values() if len(str(secret)) > 5)
            else:
                yield from _secrets(value)
    elif isinstance(node, list):
        for item in node:
            yield from _secrets(item)
