"""How an index's credentials come to its replicas."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from visualindex.credentials import (
    BucketKeys,
    Credentials,
    buckets_told,
    files_environment,
    from_environment,
    read,
)
from visualindex.errors import ProblemError
from visualindex.ingesting.places import bucket_keys, find_bucket
from visualindex.spec import Spec

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


SHOP = BucketKeys("shop", "shop-access", "shop-secret")
BOTH = Credentials("postgres://db", "access", "secret", (SHOP, BucketKeys("old-shop", "a", "b")))


async def test_keys_of_further_buckets_travel_along(tmp_path: Path) -> None:
    mount(tmp_path, BOTH)
    found = await read(tmp_path / "shop", BOTH.digest())
    assert set(found.buckets) == set(BOTH.buckets)
    assert found.digest() == BOTH.digest() != Credentials("postgres://db", "access", "secret").digest()
    rotated = replace(BOTH, buckets=(replace(SHOP, secret_key="rotated"),))
    assert rotated.digest() != BOTH.digest()


def test_what_is_told_in_variables_is_read_back() -> None:
    variables = BOTH.environment()
    assert variables["VISUALINDEX_INGEST_OLD_SHOP_ACCESS_KEY"] == "a"
    assert set(buckets_told(variables)) == set(BOTH.buckets)


def test_no_key_is_shown() -> None:
    shown = f"{BOTH!r} {SHOP!r}"
    assert not [value for value in ("postgres", "secret'", "shop-secret", "shop-access") if value in shown]


def bucket_spec(**bucket: Any) -> Spec:
    document = {"name": "shop", "endpoint": "minio:9000", "bucket": "pictures", **bucket}
    return Spec.model_validate({"ingest": {"buckets": [document]}})


def keys(spec: Spec, credentials: Credentials, **environment: str) -> tuple[str, str]:
    return bucket_keys(find_bucket(spec, "shop"), credentials, environment)


def test_a_bucket_is_read_with_its_own_keys_before_those_of_the_store(tmp_path: Path) -> None:
    spec, prefix = bucket_spec(), "VISUALINDEX_INGEST_SHOP"
    assert keys(spec, Credentials("", "access", "secret")) == ("access", "secret")
    assert keys(spec, BOTH) == ("shop-access", "shop-secret")
    told = {f"{prefix}_ACCESS_KEY": "a", f"{prefix}_SECRET_KEY": "b"}
    assert keys(spec, BOTH, **told) == ("a", "b")
    for name in told:
        (tmp_path / name).write_text(f"{name} of a file\n")
    files = {f"{name}_FILE": str(tmp_path / name) for name in told}
    assert keys(spec, BOTH, **files) == (
        f"{prefix}_ACCESS_KEY of a file",
        f"{prefix}_SECRET_KEY of a file",
    )


def test_a_bucket_with_a_secret_of_its_own_is_not_tried_with_other_keys(tmp_path: Path) -> None:
    spec = bucket_spec(credentialsSecretRef={"name": "shop-pictures"})
    with pytest.raises(ProblemError, match="set VISUALINDEX_INGEST_SHOP_ACCESS_KEY and") as caught:
        keys(spec, Credentials("", "access", "secret"))
    assert "secret" not in caught.value.detail
    missing = str(tmp_path / "gone")
    with pytest.raises(ProblemError, match=f"{missing}, which cannot be read"):
        keys(spec, BOTH, VISUALINDEX_INGEST_SHOP_ACCESS_KEY_FILE=missing)
