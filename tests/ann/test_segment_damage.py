"""A segment whose bytes were wrong before their checksums were taken is refused by name, or can be searched."""

import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
import pytest
from benchmarks.vectors import clustered

from visualindex.ann import codes as half
from visualindex.ann import open_segment, write_segment
from visualindex.ann.attribute_columns import AttributeColumns
from visualindex.ann.attributes import fields
from visualindex.ann.families import Effort, Parameters, build_ann
from visualindex.errors import ProblemError
from visualindex.filters import parse_filter
from visualindex.identity import buckets_of
from visualindex.spec.models import HnswSpec

ROWS, DIMENSION = 400, 16
LISTS, GRAPHS = ("ivf-sq8", "ivf-pq", "rabitq"), ("hnsw-fp16", "hnsw-sq8")


@pytest.fixture(params=LISTS + GRAPHS)
def segment(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = tmp_path / "segment"
    folder.mkdir()
    codes = half.encode(clustered(ROWS, DIMENSION, seed=0, clusters=10))
    codes.tofile(folder / "vectors.f16")
    ids = np.random.default_rng(1).integers(0, 256, (ROWS, 16)).astype(np.uint8)
    ann = build_ann(request.param, codes, Parameters(HnswSpec(m=8, ef_construction=16)))
    ann.effort = Effort(nprobe=3, rescore=2) if request.param in LISTS else Effort(ef_search=16, rescore=2)
    about = ({"category": "ab"[n % 2], "metadata": {"n": n, "tags": ["x", n % 3]}} for n in range(ROWS))
    write_segment(
        folder,
        ids=ids,
        versions=np.arange(ROWS),
        buckets=buckets_of(ids),
        attributes=AttributeColumns.build(fields(one) for one in about),
        ann=ann,
    )
    return folder


FUZZ = """
import resource, shutil, sys
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))  # a file that claims to be huge takes no machine down
from pathlib import Path
import numpy as np
from visualindex.ann import Ask, Base, Grouping, ShardIndex, Sorting, open_segment
from visualindex.errors import ProblemError
from visualindex.filters import parse_filter
from visualindex.identity import BUCKETS
from visualindex.spec.models import HnswSpec

source, turns, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
names = sorted(path.name for path in source.iterdir())
filters = [parse_filter(one) for one in (
    {"eq": {"category": "a"}}, {"range": {"metadata.n": {"gte": 100}}}, {"range": {"metadata.n": {"gte": 390}}},
    {"eq": {"metadata.tags": 1}},
)]
queries = np.eye(4, 16, dtype=np.float32)
random = np.random.default_rng(seed)

def use(folder):
    base = Base.of(open_segment(folder, 16), range(BUCKETS))
    index = ShardIndex(16, flat_below=8, hnsw=HnswSpec(), memory_limit=1 << 40, bases=[base])
    base.find(np.asarray(base.segment.ids[:5]))
    index.look(queries, Ask(10))
    for one in filters:
        index.look(queries, Ask(5, one, facets=("category", "metadata.tags")))
    index.look(queries[:1], Ask(5, group=Grouping("category")))
    index.look(queries[:1], Ask(5, sort=Sorting("metadata.n", "desc")))
    index.close()

use(source)
opened = refused = 0
for turn in range(turns):
    folder = source.with_name(f"damaged-{turn}")
    shutil.copytree(source, folder)
    name = names[turn % len(names)] if turn % 2 else ("ann.faiss", "attributes.arrow")[turn // 2 % 2]
    content = bytearray((source / name).read_bytes())
    for _ in range(int(random.integers(1, 5))):
        content[int(random.integers(len(content)))] ^= int(random.integers(1, 256))
    (folder / name).write_bytes(content)
    try:
        use(folder)
        opened += 1
    except ProblemError as problem:
        assert str(folder / name) in problem.detail, problem.detail
        refused += 1
    shutil.rmtree(folder)
print(opened, refused)
"""


def test_damage_under_a_right_checksum_is_named_or_does_no_harm(segment: Path) -> None:
    """In a process of its own: were damaged bytes to make Faiss read foreign memory, it might die of it."""
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, segment, "160", "5"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    opened, refused = map(int, done.stdout.split())
    assert opened
    assert refused > 40


def numbers_of(segment: Path) -> tuple[int, list[int]]:
    """Where the row numbers of the fullest list stand in `ann.faiss`, and what they are."""
    found = open_segment(segment, DIMENSION).ann
    assert found is not None
    lists = found._lists  # type: ignore[attr-defined]
    number = max(range(lists.nlist), key=lists.invlists.list_size)
    ids = faiss.rev_swig_ptr(lists.invlists.get_ids(number), lists.invlists.list_size(number)).copy()
    at = (segment / "ann.faiss").read_bytes().index(ids.tobytes())
    return at, ids.tolist()


@pytest.mark.parametrize("segment", LISTS, indirect=True)
@pytest.mark.parametrize(
    ("wrong", "said"), [(ROWS, "outside of 0 … 399"), (-1, "outside of 0 … 399"), (None, "nowhere")]
)
def test_lists_that_name_no_row_or_one_twice_are_refused(segment: Path, wrong: int | None, said: str) -> None:
    at, ids = numbers_of(segment)
    content = bytearray((segment / "ann.faiss").read_bytes())
    content[at : at + 8] = np.int64(ids[1] if wrong is None else wrong).tobytes()
    (segment / "ann.faiss").write_bytes(content)
    with pytest.raises(
        ProblemError, match=rf"ann\.faiss cannot be used: its invlists\.ids.* {said}.*fetched again"
    ):
        open_segment(segment, DIMENSION)


@pytest.mark.parametrize("segment", GRAPHS, indirect=True)
@pytest.mark.parametrize(("field", "wrong"), [("levels", 9), ("offsets", 25), ("neighbors", ROWS)])
def test_graphs_that_name_rows_or_places_that_are_not_there_are_refused(
    segment: Path, field: str, wrong: int
) -> None:
    rewritten(segment, links_of(segment, field), 1, wrong)
    with pytest.raises(
        ProblemError, match=r"ann\.faiss cannot be used: Faiss cannot read it .*fetched again"
    ):
        open_segment(segment, DIMENSION)


@pytest.mark.parametrize("segment", GRAPHS, indirect=True)
def test_graphs_that_lead_to_a_row_that_is_not_on_the_level_are_refused(segment: Path) -> None:
    levels, offsets, neighbors = (links_of(segment, name) for name in ("levels", "offsets", "neighbors"))
    above = int(offsets[np.argmax(levels)]) + 16  # behind the 2 m links of the lowest level
    rewritten(segment, neighbors, above, int(np.argmin(levels)))
    with pytest.raises(ProblemError, match=r"its hnsw\.neighbors of level 1 name rows that are not on it"):
        open_segment(segment, DIMENSION)


@pytest.mark.parametrize("segment", GRAPHS, indirect=True)
@pytest.mark.parametrize(("place", "wrong", "said"), [(0, 399, "entry_point 399"), (1, 9, "max_level is 9")])
def test_graphs_that_begin_where_there_is_no_row_are_refused(
    segment: Path, place: int, wrong: int, said: str
) -> None:
    found = open_segment(segment, DIMENSION).ann
    assert found is not None
    links = found.index.hnsw  # type: ignore[attr-defined]
    rewritten(segment, np.array([links.entry_point, links.max_level], np.int32), place, wrong)
    with pytest.raises(ProblemError, match=rf"ann\.faiss cannot be used: its hnsw\.{said}.*fetched again"):
        open_segment(segment, DIMENSION)


def links_of(segment: Path, field: str) -> np.ndarray:
    found = open_segment(segment, DIMENSION).ann
    assert found is not None
    values = getattr(found.index.hnsw, field)  # type: ignore[attr-defined]
    return np.array(faiss.rev_swig_ptr(values.data(), values.size()))


def rewritten(segment: Path, values: np.ndarray, place: int, wrong: int) -> None:
    """Another value in one place of those that stand somewhere in `ann.faiss`."""
    path = segment / "ann.faiss"
    content = path.read_bytes()
    at = content.index(values.tobytes()) + place * values.itemsize
    path.write_bytes(content[:at] + values.dtype.type(wrong).tobytes() + content[at + values.itemsize :])


def test_a_field_whose_rows_are_none_of_the_segment_names_its_file(segment: Path) -> None:
    path = segment / "attributes.arrow"
    content = path.read_bytes()
    rows = np.arange(0, ROWS, 2, dtype=np.int32)  # those of category "a"
    at = content.index(rows.tobytes())
    path.write_bytes(content[:at] + np.int32(ROWS).tobytes() + content[at + 4 :])
    opened = open_segment(segment, DIMENSION)
    with pytest.raises(ProblemError, match=r"attributes\.arrow cannot be used: .*rows outside of 0 … 399"):
        opened.remembered.left_by(parse_filter({"eq": {"category": "a"}}))
