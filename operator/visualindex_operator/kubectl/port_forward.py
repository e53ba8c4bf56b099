"""`kubectl visualindex port-forward`: the search API of an index on a port of this machine."""

from typing import TYPE_CHECKING, Annotated

import typer

from visualindex_operator.kubectl.options import Context, Name, Namespace

if TYPE_CHECKING:
    from visualindex_operator.kubectl.cluster import Cluster


def port_forward(
    name: Name,
    namespace: Namespace = None,
    context: Context = None,
    port: Annotated[int, typer.Option("--port", "-p", min=1, max=65_535, help="Port to listen on.")] = 8000,
    host: Annotated[str, typer.Option("--address", help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Reach an index at http://127.0.0.1:8000 until Ctrl-C; connections go to pods that are ready."""
    from visualindex.local.ports import require_free
    from visualindex_operator.kubectl.cluster import ask

    require_free(port, host)
    ask(lambda cluster: _forward(cluster, name, host, port), context, namespace)


async def _forward(cluster: "Cluster", name: str, host: str, port: int) -> None:
    import asyncio

    from visualindex_operator.kubectl.forwarding import Forwarding
    from visualindex_operator.kubectl.services import search_service
    from visualindex_operator.kubectl.surroundings import read_index

    service = search_service(await read_index(cluster, name))

    def tell(line: str) -> None:
        typer.secho(line, err=True, dim=True)

    async with Forwarding(cluster, service, tell).listening(host, port):
        typer.echo(f"{name}: http://{host}:{port}{service.path}/ (Ctrl-C ends it)")
        await asyncio.Event().wait()
