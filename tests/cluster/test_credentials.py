"""How an index's credentials come to its replicas."""

import asyncio
from pathlib import Path

import pytest

from visualindex.credentials import Credentials, files_environment, from_environment, read
from visualindex.errors import ProblemError

OLD = Credentials("postgres://old", "access", "secret")
NEW = Credentials("postgres://new", "access", "rotated")


def mount(folder: Path, credentials: Credentials, index: str = "shop") -> None:
    for name, value in credentials.entries(index).items():
        (folder / name).write_text(value)


async def test_files_give_the_credentials_that_were_put_into_the_secret(tmp_path: Path) -> None:
    mount(tmp_path, OLD)
    assert await read(tmp_path / "shop", OLD.digest()) == OLD


async def test_a_database_needs_no_bucket(tmp_path: Path) -> None:
    alone = Credentials("postgres://db")
    mount(tmp_path, alone)
    assert list(alone.entries("shop")) == ["shop.dsn"]
    assert await read(tmp_path / "shop", alone.digest()) == alone


async def test_a_replica_waits_until_the_files_are_those_of_its_digest(tmp_path: Path) -> None:
    mount(tmp_path, OLD)
    reading = asyncio.create_task(read(tmp_path / "shop", NEW.digest()))
    done, _ = await asyncio.wait({reading}, timeout=0.2)
    assert not done
    mount(tmp_path, NEW)
    assert await reading == NEW


async def test_waiting_has_an_end_that_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"shop\.dsn is missing"):
        await read(tmp_path / "shop", OLD.digest(), patience_s=0)
    mount(tmp_path, OLD)
    with pytest.raises(ProblemError, match="not the files of this deployment's digest"):
        await read(tmp_path / "shop", NEW.digest(), patience_s=0)


async def test_an_index_whose_name_begins_like_anothers_has_files_of_its_own(tmp_path: Path) -> None:
    mount(tmp_path, OLD, "shop")
    mount(tmp_path, NEW, "shop-2")
    assert await read(tmp_path / "shop-2", NEW.digest()) == NEW


async def test_the_environment_names_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visualindex.credentials.DIRECTORY", str(tmp_path))
    mount(tmp_path, OLD)
    assert await from_environment(files_environment("shop", OLD)) == OLD


async def test_the_environment_may_hold_the_values_themselves() -> None:
    assert await from_environment(OLD.environment()) == OLD
    with pytest.raises(ProblemError, match="VISUALINDEX_POSTGRES_DSN"):
        await from_environment({})


def test_any_changed_value_changes_the_digest_and_a_newline_at_its_end_does_not() -> None:
    assert len({OLD.digest(), NEW.digest(), Credentials("postgres://old", "access").digest()}) == 3
    assert Credentials("postgres://old\n", "access", "secret\n").digest() == OLD.digest()


def test_values_are_not_shown() -> None:
    assert "secret" not in repr(OLD)
    assert "old" not in repr(OLD)
