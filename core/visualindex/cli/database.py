"""`visualindex database`: what has to be done to a service's database and store beside serving, one job a command."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from visualindex.catalog import KeyChanges

database = typer.Typer(
    no_args_is_help=True, help="Work on a service's database: schema, keys, erasing an index."
)

Dsn = Annotated[
    str | None,
    typer.Option(
        envvar="VISUALINDEX_POSTGRES_DSN", help="Connection string of the database.", show_default=False
    ),
]
Index = Annotated[str, typer.Option("--index", "-i", help="Name of the index.", show_default=False)]

_OUT_OF_TIME = 4


@database.command()
def migrate(
    dsn: Dsn = None,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for a server that does not answer yet.")
    ] = 60.0,
) -> None:
    """Bring the schema to this release's revision."""
    import asyncio

    from visualindex.catalog import migrate as bring_up
    from visualindex.catalog import reach

    server = _given(dsn)

    async def work() -> list[str]:
        await reach(server, wait_s=wait)
        return await bring_up(server)

    for revision in (applied := asyncio.run(work())):
        typer.echo(f"applied {revision}")
    if not applied:
        typer.echo("up to date")


@database.command()
def keys(
    index: Index,
    folder: Annotated[
        Path,
        typer.Option("--from", help="Directory with one key a file, a mounted Secret.", show_default=False),
    ],
    dsn: Dsn = None,
) -> None:
    """Make the keys in a directory the index's own, and end those it no longer holds.

    A file holds the text of a key (vi_…), which then may search (one named `admin`: everything), or JSON with `key`,
    `scopes`, `filter` and `expires`. Keys made by `visualindex keys create` are left alone.
    """
    import asyncio

    from visualindex.catalog import Catalog, reach, read_keys

    server, declared = _given(dsn), read_keys(folder)

    async def work() -> "KeyChanges":
        await reach(server)
        catalog = await Catalog.open(server, max_connections=1, application_name="visualindex database keys")
        try:
            return await catalog.sync_keys(_checked(index), declared)
        finally:
            await catalog.close()

    _report(asyncio.run(work()))


@database.command()
def erase(
    index: Index,
    yes: Annotated[bool, typer.Option("--yes", help="Yes, delete it for good.")] = False,
    spec: Annotated[
        Path | None,
        typer.Option(help="File with the index's VisualIndex document, for its storage.", show_default=False),
    ] = None,
    storage_json: Annotated[
        str | None, typer.Option(help="Or its spec.storage as JSON.", show_default=False)
    ] = None,
    within: Annotated[
        float | None, typer.Option(min=0, help="Seconds to work at most; exit code 4 when something is left.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also while replicas serve the index.")] = False,
    dsn: Dsn = None,
) -> None:
    """Delete an index for good: its objects, then its images, logs and keys. May be repeated until done.

    A bucket's credentials are read from VISUALINDEX_S3_ACCESS_KEY and VISUALINDEX_S3_SECRET_KEY.
    """
    import asyncio

    from visualindex.cli import erasing

    if not yes:
        raise _refused(f"this deletes index {index} with all its pictures for good: say --yes if you mean it")
    if spec and storage_json:
        raise typer.BadParameter("--spec and --storage-json exclude each other: keep one")
    server, storage = _given(dsn), erasing.storage_of(_checked(index), spec, storage_json)
    outcome = asyncio.run(erasing.erase(server, storage, index, within_s=within, force=force))
    for part, count in outcome.erased.items():
        if count:
            typer.echo(f"deleted {count} {part}")
    if outcome.left:
        typer.echo(f"time is up, left of index {index}: {', '.join(outcome.left)}; run this again")
        raise typer.Exit(_OUT_OF_TIME)
    typer.echo(f"index {index} is erased")


@database.command()
def serve(
    data: Annotated[
        Path, typer.Option(help="Folder for the data, made if it is not there.", show_default=False)
    ],
    password_file: Annotated[
        Path, typer.Option(help="File with the password of user visualindex.", show_default=False)
    ],
    listen: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 5432,
) -> None:
    """Run a Postgres for trials, NOT FOR PRODUCTION: no replication, no backup, no TLS. Ends with SIGTERM or Ctrl-C.

    Database and user are named visualindex, the password is checked by scram-sha-256.
    """
    import signal
    import threading

    from visualindex.catalog import TrialServer
    from visualindex.local.ports import require_free

    over = threading.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: over.set())
    password = _password(password_file)
    require_free(port, listen)
    server = TrialServer(data, listen, port, password)
    try:
        server.start()
        typer.echo(f"serving database visualindex for user visualindex on {listen}, port {port}")
        typer.secho(
            "warning: this database is for trials, not for production: no replication, no backup, no TLS",
            err=True,
            fg="yellow",
        )
        server.run(over.wait)
    finally:
        server.stop()
    typer.echo("stopped")


def _given(dsn: str | None) -> str:
    if not dsn:
        raise _refused("no database is named: set VISUALINDEX_POSTGRES_DSN, or say --dsn")
    return dsn


def _checked(index: str) -> str:
    """The name, if an index can have it: it becomes the prefix of what is deleted."""
    from pydantic import TypeAdapter, ValidationError

    from visualindex.spec.models import Name

    try:
        return TypeAdapter(Name).validate_python(index)
    except ValidationError:
        detail = (
            f"'{index}' is no name of an index: lower-case letters, digits and dashes, starting with a letter"
        )
        raise _refused(detail) from None


def _password(path: Path) -> str:
    try:
        password = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(f"the password file {path} cannot be read ({error}): mount it there") from error
    if not password:
        raise _refused(f"the password file {path} is empty: write a password into it")
    return password


def _report(changes: "KeyChanges") -> None:
    told = {"added": changes.added, "updated": changes.updated, "revoked": changes.revoked}
    for what, names in told.items():
        for name in names:
            typer.echo(f"{what} {name}")
    if not any(told.values()):
        typer.echo(f"up to date: {len(changes.unchanged)} keys")


def _refused(detail: str) -> Exception:
    from visualindex.errors import ProblemError, ProblemType

    return ProblemError(ProblemType.INVALID_REQUEST, detail)
