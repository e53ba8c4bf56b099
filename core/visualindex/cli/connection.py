"""How commands find the service: the same options everywhere, and environment variables behind them."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from visualindex.api.images import IndexView
    from visualindex.client import Client

ServiceUrl = Annotated[
    str, typer.Option("--service", envvar="VISUALINDEX_URL", help="Address of the service.")
]
ApiKey = Annotated[
    str | None,
    typer.Option(envvar="VISUALINDEX_API_KEY", help="API key; a local service on loopback needs none."),
]
IndexOption = Annotated[
    str | None, typer.Option("--index", "-i", help="Index; may be left out when there is only one.")
]

Name = Annotated[str, typer.Argument(help="The index.", show_default=False)]
DEFAULT_SERVICE = "http://127.0.0.1:8000"


def connected(service: str, api_key: str | None) -> "Client":
    """A client of the service; `--help` need not load it."""
    from visualindex.client import Client

    return Client(service, api_key=api_key)


def only_index(client: "Client", wanted: str | None) -> "IndexView":
    """The index a command means: the one named, or the only one. ProblemError names the choices otherwise."""
    from visualindex.errors import ProblemError, ProblemType

    views = {view.name: view for view in client.list_indexes()}
    choices = ", ".join(views) or "none"
    if wanted is None and len(views) == 1:
        return next(iter(views.values()))
    if wanted is None:
        detail = f"the service has several indexes or none ({choices}): name one with --index"
        raise ProblemError(ProblemType.INVALID_REQUEST, detail)
    if wanted not in views:
        detail = f"the service has no index '{wanted}': it has {choices}"
        raise ProblemError(ProblemType.INDEX_NOT_FOUND, detail)
    return views[wanted]
