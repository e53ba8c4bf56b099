"""Which store a spec opens, and under which keys images lie."""

import hashlib
from pathlib import Path

import pytest

from visualindex.credentials import Credentials
from visualindex.errors import ProblemError
from visualindex.objectstore import (
    LocalObjectStore,
    open_store,
    original_key,
    thumbnail_key,
    thumbnail_keys,
)
from visualindex.objectstore.base import checked_key
from visualindex.objectstore.s3 import S3ObjectStore
from visualindex.spec.models import S3Spec, StorageSpec

DIGEST = hashlib.sha256(b"picture").digest()
NONE = Credentials("")
S3 = StorageSpec(s3=S3Spec(endpoint="127.0.0.1:9", bucket="any-bucket", secure=False))


async def test_without_a_choice_the_default_folder_serves(tmp_path: Path) -> None:
    """An empty storage spec stores below the given default."""
    store = open_store(StorageSpec(), default_folder=tmp_path / "default", credentials=NONE)
    assert isinstance(store, LocalObjectStore)
    await store.put("a", b"1", content_type="image/png")
    assert list((tmp_path / "default" / "objects").iterdir())
    await store.close()


async def test_a_named_folder_wins_over_the_default(tmp_path: Path) -> None:
    """`storage.folder` is where objects go, and the default folder is not even made."""
    store = open_store(
        StorageSpec(folder=str(tmp_path / "named")), default_folder=tmp_path / "default", credentials=NONE
    )
    await store.close()
    assert (tmp_path / "named" / "objects").is_dir()
    assert not (tmp_path / "default").exists()


async def test_a_bucket_needs_credentials(tmp_path: Path) -> None:
    """The message names the variable that holds what is missing."""
    with pytest.raises(ProblemError, match="VISUALINDEX_S3_ACCESS_KEY is not set"):
        open_store(S3, default_folder=tmp_path, credentials=Credentials("", None, "secretsecret"))
    keys = Credentials("", "accesskey", "secretsecret")
    store = open_store(S3, default_folder=tmp_path, credentials=keys)
    assert isinstance(store, S3ObjectStore)
    await store.close()


def test_keys_are_content_addresses() -> None:
    """The layout is a stored format: it must not change between releases."""
    hexadecimal = DIGEST.hex()
    assert original_key("shop", DIGEST) == f"shop/originals/{hexadecimal[:2]}/{hexadecimal}"
    assert thumbnail_key("shop", DIGEST, 320) == f"shop/thumbnails/320/{hexadecimal[:2]}/{hexadecimal}.webp"


def test_every_key_is_one_that_stores_accept() -> None:
    """The original and its thumbnails of all sizes, none under the key of another."""
    thumbnails = thumbnail_keys("shop", DIGEST, (128, 320, 640))
    assert thumbnails == [thumbnail_key("shop", DIGEST, size) for size in (128, 320, 640)]
    keys = [original_key("shop", DIGEST), *thumbnails]
    assert len(set(keys)) == 4
    assert [checked_key(key) for key in keys] == keys


def test_a_digest_of_another_length_is_a_mistake() -> None:
    """Hexadecimal text or a truncated digest is not silently made into a key."""
    with pytest.raises(ValueError, match="32 bytes"):
        original_key("shop", DIGEST[:16])
