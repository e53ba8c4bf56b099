"""`visualindex up`, `down` and `status`: the local service."""

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

_LOOPBACK = ("127.0.0.1", "localhost")
STATE = typer.Option(envvar="VISUALINDEX_STATE", help="Folder where the service keeps its state.")


def up(
    file: Annotated[
        list[Path] | None, typer.Option("-f", "--file", help="Spec file; may be repeated.")
    ] = None,
    state: Annotated[Path, STATE] = Path(".visualindex"),
    host: Annotated[str, typer.Option(help="IPv4 address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
) -> None:
    """Run the service on this machine until Ctrl-C: database, Ray Serve and proxy.

    Without -f an index named `images` with all defaults is served.
    """
    from rich.console import Console

    from visualindex.local.supervisor import Options, Supervisor

    console = Console(stderr=True, highlight=False)
    resources = specs(file or [])
    for resource in resources:
        replicas = resource.spec.replicas(resource.spec.index.replicas)
        console.print(
            f"index [bold]{resource.name}[/]: {resource.spec.encoder.family}, {replicas} replica(s) per shard"
        )
    if host in _LOOPBACK and any(r.spec.access.mode != "keys" for r in resources):
        console.print(
            "[yellow]open access[/]: no API key is needed, because the service listens on loopback only"
        )
    supervisor = Supervisor(
        resources, Options(state, host, port), lambda line: console.print(f"[dim]{line}[/]")
    )

    def ready(url: str) -> None:
        console.print(f"[green]ready[/]: {url}/  (Ctrl-C stops it)")
        if hint := key_hint(resources, host, state):
            console.print(hint, markup=False, soft_wrap=True)

    supervisor.run(ready)


def key_hint(resources: list["VisualIndex"], host: str, state: Path) -> str:  # type: ignore[name-defined]  # noqa: F821
    """How to make the key that calls of this service need; empty where none is needed."""
    loopback = host in _LOOPBACK
    closed = sorted(r.name for r in resources if r.spec.access.mode == "keys" or not loopback)
    if not closed:
        return ""
    which = "every call" if len(closed) == len(resources) else f"every call to {', '.join(closed)}"
    command = f"visualindex keys create NAME --scope search --state {shlex.quote(str(state))}"
    return f"{which} needs an API key: `{command}` makes one (--scope write and admin as needed)"


def specs(files: list[Path]) -> list["VisualIndex"]:  # type: ignore[name-defined]  # noqa: F821 - imported lazily
    """The specs of the files, or the default index."""
    from visualindex.spec import API_VERSION, KIND, VisualIndex
    from visualindex.spec.load import load_specs

    if files:
        return load_specs(files)
    return [
        VisualIndex.model_validate({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "images"}})
    ]


def down(state: Annotated[Path, STATE] = Path(".visualindex")) -> None:
    """Stop the service of a state folder and every process it started."""
    from visualindex.local.stopping import stop

    typer.echo(stop(state))


def status(
    state: Annotated[Path, STATE] = Path(".visualindex"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what runs in a state folder. Exit code 1 when nothing answers."""
    from visualindex.local.stopping import report

    found = report(state)
    typer.echo(json.dumps(found, indent=None if as_json else 2))
    if found["state"] != "ready":
        raise typer.Exit(1)
