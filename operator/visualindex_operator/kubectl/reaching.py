"""The service of an index as the commands of `visualindex` take it: an address on loopback and a key."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import typer

from visualindex_operator.kubectl.api_keys import api_key
from visualindex_operator.kubectl.cluster import Cluster, Object, ask
from visualindex_operator.kubectl.forwarding import forwarded
from visualindex_operator.kubectl.services import search_service
from visualindex_operator.kubectl.surroundings import read_index


@dataclass(frozen=True)
class Reached:
    """An index within reach."""

    url: str
    """Base URL for this run: its port is another every time."""
    key: str
    lasting_name: str
    """What stays the same from run to run, for what is remembered about the service."""


@contextmanager
def reached(name: str, context: str | None, namespace: str | None, key: str | None) -> Iterator[Reached]:
    """Forward a port to the index while the context lasts, with the given API key or that of its Secret."""

    async def look(cluster: Cluster) -> tuple[Object, str]:
        index = await read_index(cluster, name)
        return index, key or await api_key(cluster, index)

    index, found = ask(look, context, namespace)
    service = search_service(index)
    with forwarded(context, namespace, service, _tell_problems) as port:
        lasting = f"visualindex://{index['metadata']['uid']}"
        yield Reached(f"http://127.0.0.1:{port}{service.path}", found, lasting)


def _tell_problems(line: str) -> None:
    if not line.startswith("connections go to"):
        typer.secho(line, err=True, fg="yellow")
