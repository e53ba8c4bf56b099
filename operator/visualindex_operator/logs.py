"""Log lines about a resource name it, as kopf's own do: a field of its own in JSON, a prefix in text."""

import logging
from collections.abc import Mapping
from typing import Any

_QUIET = ("httpx", "httpcore", "kopf.objects", "kopf.activities", "psycopg", "aiohttp.access")
"""Loggers that would say of everything that it went well."""


def about(logger: logging.Logger, body: Mapping[str, Any]) -> "logging.LoggerAdapter[logging.Logger]":
    """`logger` for lines about the resource `body`."""
    metadata = body["metadata"]
    reference = {
        "apiVersion": body.get("apiVersion"),
        "kind": body.get("kind"),
        **{key: metadata.get(key) for key in ("namespace", "name", "uid")},
    }
    return logging.LoggerAdapter(logger, {"k8s_ref": reference})


def quieten() -> None:
    """Keep what other libraries say of ordinary work out of the log."""
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
