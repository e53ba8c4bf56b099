"""`visualindex keys`: who may call the service. Talks to the database, so it works before the service is up."""

import datetime as dt
import json
import re
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from visualindex.cli import ids

if TYPE_CHECKING:
    from visualindex.catalog import Catalog, KeyRecord

T = TypeVar("T")

keys = typer.Typer(no_args_is_help=True, help="API keys: create, list, revoke.")

SCOPES = ("search", "write", "admin")

Dsn = Annotated[
    str | None,
    typer.Option(
        envvar="VISUALINDEX_POSTGRES_DSN",
        help="Connection string of the database; without it, that of the local service in --state.",
        show_default=False,
    ),
]
State = Annotated[Path, typer.Option(envvar="VISUALINDEX_STATE", help="State folder of the local service.")]

_DEFAULT_STATE = Path(".visualindex")
_FILTER_CHARACTERS = 64 * 1024
_AGE = re.compile(r"([1-9][0-9]{0,5})([hd])")


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for; shown in lists.", show_default=False)],
    scope: Annotated[list[str] | None, typer.Option(help="search, write or admin; may be repeated.")] = None,
    index: Annotated[
        list[str] | None,
        typer.Option("--index", "-i", help="Index it is for; may be repeated; all without it."),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option("--filter", help="Filter, as text or JSON, that every search of this key is bound to."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="Lifetime such as 12h or 90d; for ever without it.")
    ] = None,
    dsn: Dsn = None,
    state: State = _DEFAULT_STATE,
) -> None:
    """Make a key and print it once: it is stored as a digest and cannot be shown again."""
    scopes = _checked_scopes(scope or ["search"])
    ends, bound = _expiry(expires), _checked_filter(where)

    async def work(catalog: "Catalog") -> "tuple[str, KeyRecord, list[str]]":
        known = [present.name for present in await catalog.list_indexes()]
        made = await catalog.create_key(scopes, name=name, indexes=index, filter=bound, expires_at=ends)
        return *made, known

    plaintext, record, known = _with_catalog(dsn, state, work)
    typer.echo(plaintext)
    _warn_of_unknown(index or [], known)
    typer.secho(f"key {record.key_id} grants {', '.join(record.scopes)}; it is not shown again", err=True)


@keys.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    dsn: Dsn = None,
    state: State = _DEFAULT_STATE,
) -> None:
    """List the keys, newest first, the expired and revoked ones too."""

    async def work(catalog: "Catalog") -> "list[KeyRecord]":
        return await catalog.list_keys()

    records = _with_catalog(dsn, state, work)
    if as_json:
        typer.echo(json.dumps([_document(record) for record in records]))
        return
    for record in records:
        indexes = ", ".join(record.indexes) if record.indexes is not None else "all indexes"
        bound = " filtered" if record.filter else ""
        scopes = ", ".join(record.scopes)
        managed = f" (declared by index {record.managed_by})" if record.managed_by else ""
        typer.echo(
            f"{record.key_id}  {_state_of(record):<8} {record.name}: {scopes} on {indexes}{bound}{managed}"
        )


@keys.command()
def revoke(
    key_id: Annotated[
        uuid.UUID,
        typer.Argument(parser=ids.key, help="Id of the key, from `keys list`.", show_default=False),
    ],
    dsn: Dsn = None,
    state: State = _DEFAULT_STATE,
) -> None:
    """End a key. Gateways that know it forget it within seconds."""
    from visualindex.errors import ProblemError, ProblemType

    async def work(catalog: "Catalog") -> bool:
        return await catalog.revoke_key(key_id)

    if not _with_catalog(dsn, state, work):
        detail = f"there is no live key {key_id}: `visualindex keys list` names them"
        raise ProblemError(ProblemType.NOT_FOUND, detail)
    typer.echo(f"revoked {key_id}")


def _warn_of_unknown(wanted: list[str], known: list[str]) -> None:
    """A key may be made before its index is, but more often the name is a mistake."""
    unknown = ", ".join(name for name in wanted if name not in known)
    if unknown:
        message = f"warning: there is no index {unknown} yet (there is {', '.join(known) or 'none'})"
        typer.secho(f"{message}: until there is, the key opens nothing there", err=True, fg="yellow")


def _with_catalog(dsn: str | None, state: Path, work: "Callable[[Catalog], Awaitable[T]]") -> T:
    import asyncio

    from visualindex.catalog import Catalog

    async def run() -> T:
        catalog = await Catalog.open(
            dsn or _local_dsn(state), max_connections=1, application_name="visualindex keys"
        )
        try:
            return await work(catalog)
        finally:
            await catalog.close()

    return asyncio.run(run())


def _local_dsn(state: Path) -> str:
    from visualindex.errors import ProblemError, ProblemType
    from visualindex.local.state import StateDir

    running = StateDir(state.resolve()).read_running()
    if running is None:
        detail = f"no service runs in {state}: start one with `visualindex up`, or name a database with --dsn"
        raise ProblemError(ProblemType.UNAVAILABLE, detail)
    return running.dsn


def _checked_scopes(scopes: list[str]) -> list[str]:
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)} is no scope: choose of {', '.join(SCOPES)}")
    return scopes


def _checked_filter(text: str | None) -> dict[str, object] | None:
    from visualindex.filters import is_text_form, parse_filter, parse_filter_text, to_json

    if text is None:
        return None
    try:
        # Without declared names: a key's filter must mean the same whatever an index declares later.
        document = to_json(parse_filter_text(text)) if is_text_form(text) else json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"--filter is not JSON: {error}") from None
    parse_filter(document)
    if len(text) > _FILTER_CHARACTERS:
        raise typer.BadParameter(
            f"--filter has {len(text)} characters, at most {_FILTER_CHARACTERS}: list fewer values"
        )
    return dict(document)


def _expiry(lifetime: str | None) -> dt.datetime | None:
    if lifetime is None:
        return None
    match = _AGE.fullmatch(lifetime)
    if match is None:
        raise typer.BadParameter(f"'{lifetime}' is no lifetime: write hours or days, such as 12h or 90d")
    unit = {"h": "hours", "d": "days"}[match.group(2)]
    return dt.datetime.now(dt.UTC) + dt.timedelta(**{unit: int(match.group(1))})


def _state_of(record: "KeyRecord") -> str:
    if record.revoked_at:
        return "revoked"
    return "expired" if record.expires_at and record.expires_at <= dt.datetime.now(dt.UTC) else "live"


def _document(record: "KeyRecord") -> dict[str, object]:
    return {
        "key_id": str(record.key_id),
        "name": record.name,
        "state": _state_of(record),
        "scopes": list(record.scopes),
        "indexes": None if record.indexes is None else list(record.indexes),
        "filter": record.filter,
        "managed_by": record.managed_by,
        "created_at": record.created_at.isoformat(),
        "expires_at": record.expires_at.isoformat() if record.expires_at else None,
    }
