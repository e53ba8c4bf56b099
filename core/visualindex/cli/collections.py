"""`visualindex collections`: free picture collections to try the service on."""

from pathlib import Path
from typing import Annotated

import typer

collections = typer.Typer(no_args_is_help=True, help="Free picture collections to try the service on.")


@collections.command("list")
def list_() -> None:
    """Name the collections and where they come from."""
    from visualindex.collections import COLLECTIONS

    for name, source in COLLECTIONS.items():
        typer.echo(f"{name:<10} {source.summary} (Debian package {source.package})")


@collections.command()
def fetch(
    name: Annotated[str, typer.Argument(help="furniture or stamps.", show_default=False)],
    folder: Annotated[Path, typer.Argument(help="Where the pictures go.", show_default=False)],
) -> None:
    """Fetch a collection with apt, without root, and write its pictures and manifest.jsonl into a folder."""
    from visualindex.collections import COLLECTIONS, MANIFEST, fetch_collection

    if name in COLLECTIONS and not (folder / MANIFEST).is_file():
        typer.echo(
            f"fetching the Debian package {COLLECTIONS[name].package}; this can take a minute", err=True
        )
    collection = fetch_collection(name, folder)
    categories = {item.category for item in collection.items}
    typer.echo(f"{len(collection.items)} pictures in {len(categories)} categories: {collection.manifest}")
