"""A generation's id and its manifest: equal inputs are equal, and no damaged or foreign bytes are believed."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.generations.conftest import PART, described, noise

from visualindex.errors import ProblemError, ProblemType
from visualindex.generations import FORMAT, Manifest, ShardFiles
from visualindex.generations.digests import describe
from visualindex.generations.manifest import canonical, document_digest, document_of

GOLDEN = Path(__file__).parent / "format-1.json"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Of one shard with two files."""
    return _small(tmp_path_factory.mktemp("files"))


def _small(folder: Path) -> Manifest:
    (folder / "ids.bin").write_bytes(noise(PART + 5))
    (folder / "empty").write_bytes(b"")
    files = tuple(describe(folder / name, PART) for name in ("empty", "ids.bin"))
    return described(shards=(ShardFiles(range(64), 10, files),))


def test_measurements_and_dates_are_no_part_of_the_id(manifest: Manifest) -> None:
    """The same build on another day, by another release and with other timings is the same generation."""
    other = dataclasses.replace(manifest, recall={"recall": 0.9}, release="9", created_at="later")
    assert other.generation == manifest.generation
    assert re.fullmatch("[0-9a-f]{16}", manifest.generation)


@pytest.mark.parametrize(
    "change",
    [
        {"index": "other"},
        {"fingerprint": "f2"},
        {"dimension": 5},
        {"metric": "l2"},
        {"watermark": "12:35"},
        {"parameters": {"family": "hnsw-fp16"}},
        {"part_bytes": PART + 1},
        {"shards": ()},
    ],
)
def test_every_input_is_a_part_of_the_id(manifest: Manifest, change: dict[str, Any]) -> None:
    """Anything that was put in, or came out as a file, makes another generation."""
    assert dataclasses.replace(manifest, **change).generation != manifest.generation


def test_the_order_of_parameters_does_not_matter() -> None:
    """Equal JSON is equal, however it was put together."""
    one, other = described(parameters={"a": 1, "b": [2, 3]}), described(parameters={"b": (2, 3), "a": 1})
    assert one.generation == other.generation
    assert one.to_json() == other.to_json()


def test_a_manifest_is_read_as_it_was_written(manifest: Manifest) -> None:
    """All fields survive, and so does the id."""
    read = Manifest.from_json(manifest.to_json())
    assert read == manifest
    assert read.generation == manifest.generation


def test_format_1_is_read_and_written_as_ever() -> None:
    """The stored format: a manifest of the first release, its id, and its bytes, which a change must not touch."""
    stored = GOLDEN.read_bytes().rstrip(b"\n")
    manifest = Manifest.from_json(stored)
    assert manifest.generation == "619217587f3e5c29"
    assert manifest.shards[0].buckets == range(64)
    assert [entry.bytes for entry in manifest.shards[0].files] == [0, PART + 5]
    assert manifest.to_json() == stored


@pytest.mark.parametrize("content", [float("nan"), float("inf"), {1: 2}, {None: 1}])
def test_what_json_cannot_say_is_not_written(content: object) -> None:
    """It would be read back as something else."""
    with pytest.raises(ValueError, match=r"JSON"):
        described(parameters={"inner": [content]}).to_json()


def _rewritten(manifest: Manifest, **changes: Any) -> bytes:
    document = {**document_of(manifest), **changes}
    return canonical({**document, "sha256": document_digest(document)})


def test_a_newer_format_is_refused_with_the_remedy(manifest: Manifest) -> None:
    """Also when it has fields that nobody here has heard of."""
    with pytest.raises(ProblemError, match="format 2, this release reads 1 to 1: upgrade") as caught:
        Manifest.from_json(_rewritten(manifest, format=FORMAT + 1, novelty=True))
    assert caught.value.type is ProblemType.UNAVAILABLE


def test_a_format_from_before_is_refused_with_the_remedy(manifest: Manifest) -> None:
    """What no release reads any more has to be built anew."""
    with pytest.raises(ProblemError, match="build a new generation"):
        Manifest.from_json(_rewritten(manifest, format=FORMAT - 2))


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "/a", "a\x00", "a\n", "é", "a" * 201])
def test_names_that_could_leave_the_directory_are_refused(manifest: Manifest, name: str) -> None:
    """A manifest with a right digest is not therefore a harmless one."""
    [shard] = document_of(manifest)["shards"]
    shard["files"][0]["name"] = name
    with pytest.raises(ProblemError, match=r"shards\.0\.files\.0\.name"):
        Manifest.from_json(_rewritten(manifest, shards=[shard]))


def test_contradictions_are_named(manifest: Manifest) -> None:
    """Sizes and digests that do not belong together, doubled names, reversed buckets, unknown fields."""
    for wrong, message in (
        ({"bytes": PART}, "2 parts cannot hold 1000 bytes"),
        ({"bytes": -1}, r"bytes: Input should be greater"),
        ({"digest": "0" * 64}, "its digest is not that of its parts"),
        ({"checksum": "XYZ"}, "checksum"),
        ({"name": "empty"}, "two have one name"),
    ):
        [shard] = document_of(manifest)["shards"]
        shard["files"][1].update(wrong)
        with pytest.raises(ProblemError, match=message):
            Manifest.from_json(_rewritten(manifest, shards=[shard]))
    [shard] = document_of(manifest)["shards"]
    with pytest.raises(ProblemError, match="end before they begin"):
        Manifest.from_json(_rewritten(manifest, shards=[{**shard, "buckets": [64, 0]}]))
    with pytest.raises(ProblemError, match="novelty"):
        Manifest.from_json(_rewritten(manifest, novelty=True))
    with pytest.raises(ProblemError, match="part_bytes"):
        Manifest.from_json(_rewritten(manifest, part_bytes=2**40))


@given(data=st.data())
def test_damaged_bytes_are_a_named_problem(manifest: Manifest, data: st.DataObject) -> None:
    """A flipped bit, a cut, a doubled or a foreign stretch anywhere: refused, or without any effect."""
    whole = manifest.to_json()
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    damaged = whole[:start] + data.draw(st.binary(max_size=20)) + whole[stop:]
    _is_refused_or_equal(damaged, manifest)
    flipped = bytearray(whole)
    flipped[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    _is_refused_or_equal(bytes(flipped), manifest)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(field=st.sampled_from(sorted(document_of(described()))), value=_JSON)
def test_any_value_of_any_field_is_read_or_refused(field: str, value: object) -> None:
    """Also with a right digest: no other exception, and what is read is written as it was."""
    try:
        data = _rewritten(described(), **{field: value})
    except ValueError:
        return  # NaN
    try:
        read = Manifest.from_json(data)
    except ProblemError as problem:
        found = problem.detail
    else:
        found = field
        assert read.to_json() == data
    assert field in found


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{}", b"[" * 100_000, b'{"format":' * 5_000, b"\xff"])
def test_foreign_bytes_are_a_named_problem(data: bytes) -> None:
    """Not even deep nesting does more than that."""
    with pytest.raises(ProblemError, match="manifest is damaged"):
        Manifest.from_json(data)


def _is_refused_or_equal(data: bytes, manifest: Manifest) -> None:
    try:
        assert json.loads(data) == json.loads(manifest.to_json())
    except ValueError:
        with pytest.raises(ProblemError, match="manifest"):
            Manifest.from_json(data)
    except AssertionError:
        with pytest.raises(ProblemError, match="manifest"):
            Manifest.from_json(data)
    else:
        assert Manifest.from_json(data) == manifest
