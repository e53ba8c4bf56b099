"""What keeps an application from running, in one line, out of what Serve says of it and its deployments."""

import re
from collections.abc import Mapping

_MOST = 400
_EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:Error|Exception): \S.*$", re.MULTILINE)
_QUIET = ("HEALTHY", "RUNNING")


def trouble(application: str, status: str, message: str, deployments: Mapping[str, tuple[str, str]]) -> str:
    """`application is STATUS: why`. `deployments` are status and message of each.

    Of a traceback only the last exception is kept: the rest is in the replica's log, and may quote values.
    """
    causes = [
        f"{name}: {reason(text)}"
        for name, (state, text) in sorted(deployments.items())
        if state not in _QUIET and text
    ]
    why = "; ".join(causes) or reason(message)
    return f"{application} is {status or 'not started'}{f': {why}' if why else ''}"


def reason(message: str) -> str:
    """The last exception in a message, else the message, in one line."""
    exceptions: list[str] = _EXCEPTION.findall(message)
    text = " ".join((exceptions[-1] if exceptions else message).split())
    return text if len(text) <= _MOST else f"{text[: _MOST - 1]}…"
