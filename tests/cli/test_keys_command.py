"""`visualindex keys` makes, lists and ends keys in a real database; the secret is shown once."""

import asyncio
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from tests.postgres import running_postgres
from typer.testing import CliRunner

from visualindex.catalog import Catalog, KeyRecord, migrate
from visualindex.cli import app
from visualindex.errors import ProblemError
from visualindex.local.state import Running, StateDir


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    """A real database with the service's schema."""
    with running_postgres() as server:
        asyncio.run(migrate(server.dsn))
        yield server.dsn


def keys(dsn: str, *arguments: str) -> Result:
    """Run `visualindex keys`."""
    return CliRunner().invoke(app, ["keys", *arguments], env={"VISUALINDEX_POSTGRES_DSN": dsn})


def authenticate(dsn: str, plaintext: str) -> KeyRecord | None:
    """What the service makes of a key."""

    async def ask() -> KeyRecord | None:
        catalog = await Catalog.open(dsn, max_connections=1)
        try:
            return await catalog.authenticate(plaintext)
        finally:
            await catalog.close()

    return asyncio.run(ask())


def test_a_new_key_is_printed_alone_and_works(dsn: str) -> None:
    bound = '{"eq": {"category": "Chairs"}}'
    result = keys(
        dsn, "create", "shop", "--scope", "search", "-i", "shop", "--filter", bound, "--expires", "12h"
    )
    assert result.exit_code == 0, result.output
    plaintext = result.stdout.strip()
    assert plaintext.startswith("vi_")
    record = authenticate(dsn, plaintext)
    assert record is not None
    assert (record.scopes, record.indexes, record.filter) == (("search",), ("shop",), json.loads(bound))
    assert record.expires_at is not None
    assert (record.expires_at - record.created_at).total_seconds() == pytest.approx(12 * 3600, abs=60)


def test_a_filter_as_text_is_kept_as_json(dsn: str) -> None:
    result = keys(dsn, "create", "shop", "--filter", 'category = "Chairs" and not exists(metadata.hidden)')
    record = authenticate(dsn, result.stdout.strip())
    assert record is not None
    assert record.filter == {"and": [{"eq": {"category": "Chairs"}}, {"not": {"exists": "metadata.hidden"}}]}


def test_a_key_for_an_index_that_is_not_there_comes_with_a_warning(dsn: str) -> None:
    async def register() -> None:
        catalog = await Catalog.open(dsn, max_connections=1)
        try:
            await catalog.ensure_index("furniture", "f", 8)
        finally:
            await catalog.close()

    asyncio.run(register())
    wrong = keys(dsn, "create", "x", "-i", "furnitur", "-i", "furniture")
    assert wrong.exit_code == 0
    assert wrong.stdout.strip().startswith("vi_")
    assert "there is no index furnitur yet (there is furniture)" in wrong.stderr
    assert "warning" not in keys(dsn, "create", "x", "-i", "furniture").stderr
    assert "warning" not in keys(dsn, "create", "x").stderr


def test_a_list_names_keys_and_never_their_secrets(dsn: str) -> None:
    plaintext = keys(dsn, "create", "for the list", "--scope", "write", "--scope", "search").stdout.strip()
    listing = keys(dsn, "list").stdout
    assert "live     for the list: write, search on all indexes" in listing
    assert plaintext not in listing
    assert "for the list" in [record["name"] for record in json.loads(keys(dsn, "list", "--json").stdout)]


def test_a_revoked_key_no_longer_works(dsn: str) -> None:
    plaintext = keys(dsn, "create", "short-lived").stdout.strip()
    record = authenticate(dsn, plaintext)
    assert record is not None
    assert keys(dsn, "revoke", str(record.key_id)).exit_code == 0
    assert authenticate(dsn, plaintext) is None
    again = keys(dsn, "revoke", str(record.key_id))
    assert isinstance(again.exception, ProblemError)
    assert "no live key" in again.exception.detail


@pytest.mark.parametrize(
    "arguments",
    [
        ["create", "x", "--scope", "everything"],
        ["create", "x", "--expires", "soon"],
        ["create", "x", "--filter", "{"],
        ["revoke", "not-an-id"],
    ],
)
def test_a_wrong_option_is_a_usage_error(dsn: str, arguments: list[str]) -> None:
    assert keys(dsn, *arguments).exit_code == 2


def test_a_filter_that_the_service_would_refuse_makes_no_key(dsn: str) -> None:
    before = len(json.loads(keys(dsn, "list", "--json").stdout))
    result = keys(dsn, "create", "x", "--filter", '{"nonsense": {}}')
    assert isinstance(result.exception, ProblemError)
    assert len(json.loads(keys(dsn, "list", "--json").stdout)) == before


def test_the_local_service_is_found_by_its_state_folder(dsn: str, tmp_path: Path) -> None:
    StateDir.at(tmp_path).write_running(Running(1, "http://127.0.0.1:1", dsn, "", ["shop"]))
    result = CliRunner().invoke(
        app, ["keys", "list", "--state", str(tmp_path)], env={"VISUALINDEX_POSTGRES_DSN": ""}
    )
    assert result.exit_code == 0, result.output


def test_without_a_service_the_message_says_what_to_do(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["keys", "revoke", str(uuid.uuid4()), "--state", str(tmp_path)])
    assert isinstance(result.exception, ProblemError)
    assert "visualindex up" in result.exception.detail
