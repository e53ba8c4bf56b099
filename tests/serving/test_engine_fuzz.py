"""Whatever stands in frames, cursors, manifests and segments: they are read, or refused by name, and nothing else."""

import base64
import contextlib
import shutil
import struct
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from visualindex.ann import Ask, Base, Grouping, ShardIndex, Sorting, open_segment, write_segment
from visualindex.ann import codes as half
from visualindex.ann.attribute_columns import AttributeColumns
from visualindex.ann.attributes import fields
from visualindex.ann.families import Parameters, build_and_tune
from visualindex.ann.segment import VECTORS
from visualindex.errors import ProblemError
from visualindex.filters import parse_filter
from visualindex.generations import FORMAT, Manifest
from visualindex.identity import BUCKETS, buckets_of
from visualindex.spec.models import HnswSpec
from visualindex_serving.cursors import Cursor, decode_cursor
from visualindex_serving.frames import frame
from visualindex_serving.messages import Group, ShardAnswer, ShardQuery, Sort
from visualindex_serving.shard_wire import answer_frame, query_frame, read_answer, read_query

MALFORMED = (KeyError, TypeError, ValueError)
DIMENSION = 4

values = st.text(max_size=5) | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
keys = values | st.booleans().map(lambda truth: ("bool", truth))
names = st.sampled_from(["category", "metadata.n"])
sorts = st.builds(
    Sort,
    names,
    st.sampled_from(["asc", "desc"]),
    st.none() | st.tuples(st.none() | keys, st.binary(min_size=16, max_size=16)),
)
queries = st.builds(
    ShardQuery,
    vectors=st.just(np.eye(1, DIMENSION, dtype=np.float32)),
    k=st.integers(1, 99),
    filter=st.none() | st.just({"eq": {"category": "a"}}),
    exclude=st.lists(st.binary(min_size=16, max_size=16), max_size=2).map(tuple),
    deadline=st.just(time.time() + 3600),
    generation=st.sampled_from(["", "live", "0123456789abcdef"]),
    min_score=st.none() | st.floats(-1, 1),
    facets=st.lists(names, max_size=2).map(tuple),
    group=st.none() | st.builds(Group, names, st.integers(1, 9)),
    sort=st.none() | sorts,
    explain=st.booleans(),
)
answers = st.builds(
    ShardAnswer,
    ids=st.just(np.zeros((1, 2, 16), np.uint8)),
    scores=st.just(np.zeros((1, 2), np.float32)),
    counts=st.just(np.array([2])),
    versions=st.just(np.array([[1, 2]])),
    rows=st.integers(0, 9),
    cpu_ms=st.just(0.5),
    matches=st.integers(0, 9),
    keys=st.lists(st.none() | keys, max_size=3),
    facets=st.dictionaries(names, st.lists(st.tuples(keys, st.integers(1, 9)), max_size=3)),
    plans=st.just([{"part": "fresh", "rows": 3}]),
)
anything: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=6,
)


def parts(sent: bytes) -> tuple[dict[str, Any], bytes]:
    """Head and body of a frame."""
    reference = frame({}, b"")
    assert len(reference) >= 8
    head_size, body_size = struct.unpack_from("<II", sent)
    head = sent[8 : 8 + head_size]
    assert len(sent) == 8 + head_size + body_size
    return orjson.loads(head), sent[8 + head_size :]


@given(queries)
def test_a_query_arrives_with_all_that_it_asks(query: ShardQuery) -> None:
    read = read_query(*parts(query_frame(3, query)))
    for name in ("k", "filter", "exclude", "generation", "min_score", "facets", "group", "sort", "explain"):
        assert getattr(read, name) == getattr(query, name), name
    assert np.array_equal(read.vectors, query.vectors)


@given(answers)
def test_an_answer_arrives_with_all_that_it_says(answer: ShardAnswer) -> None:
    read = read_answer(*parts(answer_frame(3, answer)))
    assert isinstance(read, ShardAnswer)
    for name in ("rows", "matches", "keys", "facets", "plans", "generation"):
        assert getattr(read, name) == getattr(answer, name), name


@given(st.data(), queries, answers)
def test_a_frame_that_says_something_else_is_read_or_refused(
    data: st.DataObject, query: ShardQuery, answer: ShardAnswer
) -> None:
    for sent, read in ((query_frame(1, query), read_query), (answer_frame(1, answer), read_answer)):
        head, body = parts(sent)
        name = data.draw(st.sampled_from([*head, "sort", "group", "facets", "keys", "shape"]))
        head[name] = data.draw(anything)
        cut = body[: data.draw(st.integers(0, len(body)))]
        with contextlib.suppress(*MALFORMED):
            read(head, cut)  # type: ignore[operator]


def cursor(**fields: Any) -> Cursor:
    vector = np.eye(1, DIMENSION, dtype=np.float32)[0]
    return Cursor("i", "f", vector, None, (), None, 3, 0.5, uuid.UUID(int=1), **fields)


@given(
    st.none() | st.tuples(names, st.integers(1, 9)),
    st.none() | st.tuples(names, st.sampled_from(["asc", "desc"])),
    st.none() | keys,
)
def test_a_cursor_continues_what_it_grouped_and_sorted(group: Any, sort: Any, last: Any) -> None:
    sent = cursor(group=group, sort=sort, last_key=last)
    read = decode_cursor(sent.encode())
    assert (read.group, read.sort, read.last_key) == (group, sort, last)


@given(st.sampled_from(list("ifqxmnslgok")), anything, st.binary(max_size=20))
def test_a_cursor_that_says_something_else_is_read_or_refused(name: str, said: Any, tail: bytes) -> None:
    text = cursor(group=("category", 1), last_key="a").encode()
    packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    (size,) = struct.unpack_from("<I", packed, 2)
    head = {**orjson.loads(packed[6 : 6 + size]), name: said}
    new = orjson.dumps(head)
    forged = packed[:2] + struct.pack("<I", len(new)) + new + (tail or packed[6 + size :])
    try:
        read = decode_cursor(base64.urlsafe_b64encode(forged).rstrip(b"=").decode())
    except ProblemError as refused:
        assert "cursor" in refused.detail  # noqa: PT017 - it may as well be read
    else:
        assert 0 <= read.depth <= 1000


def manifest() -> Manifest:
    return Manifest(
        FORMAT, "i", "f", 4, "cosine", "1/2:2:", (), {"families": ["flat"]}, {"recall": 1.0}, "1", "now"
    )


@given(st.data())
def test_a_manifest_that_says_something_else_is_refused_by_name(data: st.DataObject) -> None:
    text = bytearray(manifest().to_json())
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] ^= data.draw(st.integers(1, 255))
    cut = bytes(text[: data.draw(st.integers(0, len(text)))])
    try:
        read = Manifest.from_json(cut)
    except ProblemError as refused:
        assert "manifest" in refused.detail  # noqa: PT017 - it may as well be read
    else:
        assert read == manifest()


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segment")
    chance = np.random.default_rng(1)
    vectors = chance.standard_normal((50, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    codes = half.encode(vectors)
    codes.tofile(folder / VECTORS)
    ids = chance.integers(0, 256, (50, 16)).astype(np.uint8)
    about = [{"category": "ab"[n % 2], "metadata": {"n": n, "tags": ["x", n % 3]}} for n in range(50)]
    write_segment(
        folder,
        ids=ids,
        versions=np.arange(50),
        buckets=buckets_of(ids),
        attributes=AttributeColumns.build(fields(one) for one in about),
        ann=build_and_tune("hnsw-fp16", codes, 0.95, Parameters(hnsw=HnswSpec(m=4)))[0],
    )
    return folder


FILES = [
    "ids.bin", "versions.bin", "buckets.bin", "id_keys.bin", "by_id.bin", "vectors.f16", "attributes.arrow", "ann.json",
]  # fmt: skip
"""Not `ann.faiss`, to which Faiss gives its trust: its checksum is compared before it is opened."""


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), name=st.sampled_from(FILES))
def test_a_damaged_segment_answers_or_names_its_file(segment: Path, data: st.DataObject, name: str) -> None:
    folder = segment.with_name(f"damaged-{uuid.uuid4().hex}")
    shutil.copytree(segment, folder)
    try:
        damage(folder / name, data)
        use(folder)
    except ProblemError as refused:
        assert str(folder) in refused.detail  # noqa: PT017 - it may as well be read
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", [*FILES, "ann.faiss"])
def test_a_segment_without_one_of_its_files_names_it(segment: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(segment, folder)
    (folder / name).unlink()
    if name == "ann.json":  # a flat segment has none
        use(folder)
        return
    with pytest.raises(ProblemError, match=name):
        use(folder)


def damage(path: Path, data: st.DataObject) -> None:
    """Flip some bytes, or cut the file, or lengthen it."""
    text = bytearray(path.read_bytes())
    match data.draw(st.sampled_from(["flip", "cut", "grow"])):
        case "flip":
            for _ in range(data.draw(st.integers(1, 3))):
                text[data.draw(st.integers(0, len(text) - 1))] ^= data.draw(st.integers(1, 255))
        case "cut":
            del text[data.draw(st.integers(0, len(text) - 1)) :]
        case _:
            text += bytes(data.draw(st.integers(1, 40)))
    path.write_bytes(text)


def use(folder: Path) -> None:
    """All that a shard does with a segment."""
    opened = open_segment(folder, DIMENSION)
    base = Base.of(opened, range(BUCKETS))
    base.find(np.asarray(opened.ids[:5]))
    index = ShardIndex(DIMENSION, flat_below=8, hnsw=HnswSpec(), memory_limit=1 << 30, bases=[base])
    query = np.eye(1, DIMENSION, dtype=np.float32)
    for document in (
        {"eq": {"category": "a"}},
        {"range": {"metadata.n": {"gte": 3}}},
        {"exists": "metadata.tags"},
    ):
        index.look(query, Ask(10, parse_filter(document), facets=("metadata.tags", "category")))
    index.look(query, Ask(10, group=Grouping("category")))
    index.look(query, Ask(10, sort=Sorting("metadata.n", "desc")))
    index.close()
