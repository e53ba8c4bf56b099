"""The keys in a directory are the index's keys: no more, no fewer, and never anybody else's."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from visualindex.catalog import Catalog, KeyChanges, KeyRecord, read_keys
from visualindex.errors import ProblemError

from .scene import INDEX

OTHER = "hats"


def text_of(letter: str) -> str:
    return "vi_" + letter * 43


def as_json(letter: str, **fields: Any) -> str:
    return json.dumps({"key": text_of(letter), **fields})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "keys"
    made.mkdir()
    return made


async def sync(catalog: Catalog, folder: Path, index: str = INDEX, **files: str | None) -> KeyChanges:
    """Writes the files (None removes one) and makes them the index's keys."""
    for name, content in files.items():
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_text(content)
    return await catalog.sync_keys(index, read_keys(folder))


async def record(catalog: Catalog, letter: str) -> KeyRecord | None:
    return await catalog.authenticate(text_of(letter))


async def test_a_file_is_a_key_that_may_search_this_index(catalog: Catalog, folder: Path) -> None:
    changes = await sync(catalog, folder, web=text_of("a") + "\n", admin=text_of("b"))
    assert changes == KeyChanges(("admin", "web"), (), (), ())
    web, admin = await record(catalog, "a"), await record(catalog, "b")
    assert web is not None
    assert admin is not None
    assert (web.name, web.scopes, web.indexes, web.filter) == ("web", ("search",), (INDEX,), None)
    assert (admin.scopes, admin.indexes) == (("search", "write", "admin"), (INDEX,))


async def test_a_json_file_says_what_its_key_allows(catalog: Catalog, folder: Path) -> None:
    bound = {"eq": {"category": "boots"}}
    content = as_json("a", scopes=["write", "search"], filter=bound, expires="2099-01-01T00:00:00Z")
    await sync(catalog, folder, shop=content)
    key = await record(catalog, "a")
    assert key is not None
    assert (key.scopes, key.filter) == (("search", "write"), bound)
    assert key.expires_at is not None
    assert key.expires_at.year == 2099


async def test_repeating_changes_nothing(catalog: Catalog, folder: Path) -> None:
    files = {"a": text_of("a"), "b": as_json("b", scopes=["search"], filter={"eq": {"category": "x"}})}
    await sync(catalog, folder, **files)
    before = await catalog.list_keys()
    assert await sync(catalog, folder) == KeyChanges((), (), (), ("a", "b"))
    reordered = as_json("b", filter={"eq": {"category": "x"}}, scopes=["search", "search"])
    assert await sync(catalog, folder, b=reordered) == KeyChanges((), (), (), ("a", "b"))
    assert await catalog.list_keys() == before


@pytest.mark.parametrize(
    "changed",
    [{"scopes": ["write"]}, {"filter": {"eq": {"category": "x"}}}, {"expires": "2099-01-01T00:00:00+01:00"}],
)
async def test_a_changed_key_is_updated_and_stays_the_same_key(
    catalog: Catalog, folder: Path, changed: dict[str, Any]
) -> None:
    await sync(catalog, folder, web=as_json("a"))
    before = await record(catalog, "a")
    assert await sync(catalog, folder, web=as_json("a", **changed)) == KeyChanges((), ("web",), (), ())
    after = await record(catalog, "a")
    assert before is not None
    assert after is not None
    assert after.key_id == before.key_id
    assert after != before


async def test_a_key_that_is_gone_from_the_directory_is_revoked_until_it_is_back(
    catalog: Catalog, folder: Path
) -> None:
    await sync(catalog, folder, web=text_of("a"), app=text_of("b"))
    assert await sync(catalog, folder, web=None) == KeyChanges((), (), ("web",), ("app",))
    assert await record(catalog, "a") is None
    assert await record(catalog, "b") is not None
    assert await sync(catalog, folder) == KeyChanges((), (), (), ("app",))
    assert await sync(catalog, folder, web=text_of("a")) == KeyChanges((), ("web",), (), ("app",))
    assert await record(catalog, "a") is not None


async def test_a_rotated_key_replaces_the_one_before(catalog: Catalog, folder: Path) -> None:
    await sync(catalog, folder, web=text_of("a"))
    assert await sync(catalog, folder, web=text_of("b")) == KeyChanges(("web",), (), ("web",), ())
    assert await record(catalog, "a") is None
    assert await record(catalog, "b") is not None


async def test_keys_made_by_hand_and_those_of_other_indexes_are_left_alone(
    catalog: Catalog, folder: Path, tmp_path: Path
) -> None:
    by_hand, made = await catalog.create_key(["search"], name="by hand", indexes=[INDEX])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    await sync(catalog, elsewhere, OTHER, web=text_of("o"))
    await sync(catalog, folder, web=text_of("a"))
    await sync(catalog, folder, web=None)
    assert await catalog.authenticate(by_hand) == made
    assert await record(catalog, "o") is not None


async def test_a_key_of_another_index_is_refused_and_nothing_changes(catalog: Catalog, folder: Path) -> None:
    await sync(catalog, folder, OTHER, theirs=text_of("a"))
    (folder / "theirs").unlink()
    before = await catalog.list_keys()
    with pytest.raises(
        ProblemError, match=rf"file ours of index {INDEX} is already key theirs of index {OTHER}"
    ):
        await sync(catalog, folder, new=text_of("b"), ours=text_of("a"))
    assert await catalog.list_keys() == before


async def test_a_key_may_move_once_the_other_index_gave_it_up(catalog: Catalog, folder: Path) -> None:
    await sync(catalog, folder, OTHER, web=text_of("a"))
    await sync(catalog, folder, OTHER, web=None)
    await sync(catalog, folder, web=text_of("a"))
    key = await record(catalog, "a")
    assert key is not None
    assert (key.indexes, key.managed_by) == ((INDEX,), INDEX)


async def test_a_key_made_by_hand_is_no_declared_key(catalog: Catalog, folder: Path) -> None:
    plaintext, made = await catalog.create_key(["search"], name="by hand")
    with pytest.raises(ProblemError, match=r"file web .* was made by `visualindex keys create` \(as by hand"):
        await sync(catalog, folder, web=plaintext)
    assert await catalog.authenticate(plaintext) == made


async def test_a_key_revoked_by_hand_does_not_come_back(catalog: Catalog, folder: Path) -> None:
    await sync(catalog, folder, web=text_of("a"))
    key = await record(catalog, "a")
    assert key is not None
    assert await catalog.revoke_key(key.key_id)
    with pytest.raises(ProblemError, match=r"file web .* was revoked by hand .* put a new key there"):
        await sync(catalog, folder)
    assert await record(catalog, "a") is None
    await sync(catalog, folder, web=text_of("b"))
    assert await record(catalog, "b") is not None


async def test_one_text_in_two_files_is_refused(catalog: Catalog, folder: Path) -> None:
    with pytest.raises(ProblemError, match="files a and b hold the same key"):
        await sync(catalog, folder, a=text_of("a"), b=as_json("a"))


async def test_files_are_found_as_a_secret_is_mounted(catalog: Catalog, folder: Path) -> None:
    version = folder / "..2026_11_24"
    version.mkdir()
    (version / "web").write_text(text_of("a"))
    (folder / "..data").symlink_to(version.name)
    (folder / "web").symlink_to("..data/web")
    (folder / ".hidden").write_text("not a key")
    assert (await sync(catalog, folder)).added == ("web",)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("secret" * 10, "is no key.*openssl rand"),
        ("vi_" + "a" * 21, "22 or more"),
        ("vi_" + "a b" * 20, "is no key"),
        ("", "is no key"),
        ("{", "is wrong: Invalid JSON"),
        ("{}", "is wrong at key: Field required"),
        (json.dumps({"key": "vi_short"}), "is no key"),
        (as_json("s", scopes=["everything"]), r"wrong at scopes\.0: .*'search', 'write' or 'admin'"),
        (as_json("s", scopes=[]), "wrong at scopes"),
        (as_json("s", filter={"nonsense": {}}), "wrong at filter: The filter is wrong"),
        (as_json("s", expires="2027-01-01T00:00:00"), "wrong at expires.*timezone"),
        (as_json("s", scope=["search"]), "wrong at scope: Extra"),
    ],
)
async def test_what_is_no_key_is_named_by_its_file_and_never_shown(
    folder: Path, content: str, says: str
) -> None:
    (folder / "web").write_text(content)
    with pytest.raises(ProblemError) as raised:
        read_keys(folder)
    assert str(folder / "web") in raised.value.detail
    assert re.search(says, raised.value.detail)
    assert "\n" not in raised.value.detail
    assert "ssss" not in raised.value.detail
    assert "secretsecret" not in raised.value.detail


def test_bytes_and_floods_are_refused(folder: Path) -> None:
    (folder / "web").write_bytes(b"\xff\xfe")
    with pytest.raises(ProblemError, match="not UTF-8"):
        read_keys(folder)
    (folder / "web").write_text(text_of("a" * 2000))
    with pytest.raises(ProblemError, match="longer than 65536 bytes"):
        read_keys(folder)


def test_a_directory_that_is_not_there_is_no_empty_one(folder: Path) -> None:
    assert read_keys(folder) == []
    with pytest.raises(ProblemError, match=r"directory of keys .* cannot be read"):
        read_keys(folder / "missing")
