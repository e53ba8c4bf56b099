"""`visualindex-operator`: runs the operator until it is told to stop."""

from typing import Annotated, Literal

import kopf
import typer
from prometheus_client import start_http_server

from visualindex_operator.logs import quieten
from visualindex_operator.probes import LiveProbes, Probes
from visualindex_operator.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The VisualIndex operator.")


@app.callback()
def _group() -> None:
    """The VisualIndex operator."""


@app.command()
def run(
    log_format: Annotated[
        Literal["json", "text"],
        typer.Option(envvar="VISUALINDEX_OPERATOR_LOG_FORMAT", help="Form of log lines."),
    ] = "json",
    log_level: Annotated[
        Literal["debug", "info", "warning"],
        typer.Option(envvar="VISUALINDEX_OPERATOR_LOG_LEVEL", help="Least level."),
    ] = "info",
) -> None:
    """Reconcile VisualIndex resources until a signal comes. Everything else comes from VISUALINDEX_OPERATOR_* variables."""
    try:
        settings = Settings.from_env()
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    kopf.configure(
        debug=log_level == "debug",
        quiet=log_level == "warning",
        log_format=kopf.LogFormat.JSON if log_format == "json" else kopf.LogFormat.FULL,
        log_refkey="resource",
    )
    if log_level != "debug":
        quieten()
    operate(settings, LiveProbes())


def operate(settings: Settings, probes: Probes) -> None:
    """Run kopf with the handlers until a signal comes. `probes` is what is asked beside the API server."""
    from visualindex_operator import handlers

    assert handlers  # noqa: S101 - imported to register itself
    start_http_server(settings.metrics_port)
    kopf.run(
        clusterwide=not settings.namespaces,
        namespaces=settings.namespaces,
        peering_name=settings.peering or None,
        standalone=not settings.peering,
        priority=settings.priority,
        liveness_endpoint=f"http://0.0.0.0:{settings.liveness_port}/healthz",
        memo=kopf.Memo(settings=settings, probes=probes),
    )


def main() -> None:
    """The console script."""
    app()
