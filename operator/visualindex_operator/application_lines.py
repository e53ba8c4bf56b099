"""What a condition says of an application that does not run. Ray's words on the application name no cause ("Failed to update
the deployments"): those on its deployments do.
"""

from collections.abc import Mapping
from typing import NamedTuple

_MOST = 400


class Deployment(NamedTuple):
    """State and message of one deployment, as Ray tells them."""

    status: str
    message: str


def line(name: str, status: str, message: str, deployments: Mapping[str, Deployment]) -> str:
    """One application in one line, with the end of each text: that is where an exception stands."""
    causes = [
        f"{deployment}: {text}"
        for deployment, one in sorted(deployments.items())
        if one.status != "HEALTHY" and (text := _end_of(one.message))
    ]
    text = "; ".join(causes) or _end_of(message)
    return f"{name} is {status or 'not started'}{f' ({text})' if text else ''}"


def _end_of(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _MOST else f"…{words[-_MOST:]}"
