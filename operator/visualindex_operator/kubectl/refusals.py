"""What the API server refuses, in one line that says what to do about it."""

import json
import re
from collections.abc import Mapping

from visualindex.errors import ProblemError, ProblemType

_FORBIDDEN = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]*)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]*)"| at the cluster scope)?'
)


def refusal(status: int, body: bytes, what: str, wants: str) -> ProblemError:
    """The problem behind an answer that is no success.

    `what` names the object or list that was asked for; `wants` the verb and resource it takes, as in `get pods/log`,
    which is told where the server does not say it itself.
    """
    message = _message(body)
    if status == 401:
        detail = "the cluster does not know who you are: renew the credentials of your kubeconfig"
        return ProblemError(ProblemType.UNAUTHENTICATED, detail)
    if status == 403:
        return ProblemError(ProblemType.FORBIDDEN, _forbidden(message, wants))
    if status == 404:
        return ProblemError(
            ProblemType.NOT_FOUND, f"{what} is not there" + (f": {message}" if message else "")
        )
    kind = ProblemType.UNAVAILABLE if status >= 500 else ProblemType.INVALID_REQUEST
    return ProblemError(kind, f"the API server answered {status} for {what}: {message or 'without a reason'}")


def _message(body: bytes) -> str:
    """The message of a Kubernetes Status, or the body's first line."""
    text = body.decode("utf-8", "replace").strip()
    try:
        document = json.loads(text)
    except ValueError:
        return text.splitlines()[0][:200] if text else ""
    return str(document.get("message", "")) if isinstance(document, Mapping) else text[:200]


def _forbidden(message: str, wants: str) -> str:
    found = _FORBIDDEN.search(message)
    if found is None:
        return f"you may not do this: ask for a Role that allows `{wants}`"
    group = f".{found['group']}" if found["group"] else ""
    scope = f"in namespace {found['namespace']}" if found["namespace"] else "in all namespaces"
    needed = f"{found['verb']} {found['resource']}{group}"
    return f"{found['user']} may not do this: ask for a Role that allows `{needed}` {scope}"
