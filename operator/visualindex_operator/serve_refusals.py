"""Ray's reason for not doing what it is asked, fit for a condition: short, and without what the request holds.

On an external cluster configurations and jobs carry secrets, and Ray's validation quotes its input.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from visualindex_operator.serve_environments import environment_values

_QUOTED_INPUT = re.compile(r", input_value=.*?, input_type=\w+\]", re.DOTALL)
_RELAYED = re.compile(r"^RuntimeError: Request failed with status code (\d{3}): ", re.MULTILINE)
_MOST = 500


def status_in(status: int, answer: str) -> int:
    """The status of an answer. What a node's agent refused comes as 500 from the dashboard, with the agent's in the text."""
    relayed = _RELAYED.search(answer) if status == httpx.codes.INTERNAL_SERVER_ERROR else None
    return int(relayed[1]) if relayed else status


def reason_in(answer: str, config: Mapping[str, Any]) -> str:
    """What an answer that is no success says about what was sent; of a traceback its last words. Empty for a web page."""
    if answer.lstrip().startswith("<"):  # of a proxy in between
        return ""
    text = _QUOTED_INPUT.sub("]", answer)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if _says_something(line)]
    if any(line.startswith("Traceback") for line in lines):
        lines = lines[-1:]
    reason = _without(_secrets(config), "; ".join(lines))
    return reason if len(reason) <= _MOST else f"{reason[:_MOST]}…"


def _says_something(line: str) -> bool:
    return not line.startswith("For further information") and any(map(str.isalnum, line))


def _without(secrets: Iterator[str], text: str) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "…")
    return text


def _secrets(config: Mapping[str, Any]) -> Iterator[str]:
    """Values of environment variables, except those too short to be one."""
    return (text for value in environment_values(config) if len(text := str(value)) > 5)
