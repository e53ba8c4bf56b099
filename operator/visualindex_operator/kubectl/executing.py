"""Run a command in a pod and read what it prints."""

import json
from collections.abc import AsyncIterator, Sequence

from visualindex.errors import ProblemError, ProblemType
from visualindex_operator.kubectl import paths
from visualindex_operator.kubectl.cluster import Cluster, Query

_STDOUT, _OUTCOME = 1, 3


async def output_lines(
    cluster: Cluster, pod: str, container: str, command: Sequence[str], *, until_gone: bool = False
) -> AsyncIterator[str]:
    """The lines a command prints. With `until_gone` it has an input that ends when the reader goes away."""
    path = f"{paths.core(cluster.namespace, 'pods')}/{pod}/exec"
    query: Query = {"container": container, "command": command, "stdout": True, "stdin": until_gone or None}
    async with cluster.socket(path, f"pod {pod}", "create pods/exec", query) as socket:
        rest = b""
        async for message in socket:
            channel, data = message.data[0], message.data[1:]
            if channel == _STDOUT:
                *whole, rest = (rest + data).split(b"\n")
                for line in whole:
                    yield line.decode("utf-8", "replace")
            elif channel == _OUTCOME:
                _check(pod, data)
        if rest:
            yield rest.decode("utf-8", "replace")


def _check(pod: str, outcome: bytes) -> None:
    document = json.loads(outcome)
    if document.get("status") == "Failure" and document.get("reason") != "NonZeroExitCode":
        raise ProblemError(
            ProblemType.UNAVAILABLE, f"pod {pod}: {document.get('message', 'the command failed')}"
        )
