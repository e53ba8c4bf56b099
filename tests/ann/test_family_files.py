"""Damaged files of an index are named; what is wrong in them never reaches Faiss, which would trust it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest
from benchmarks.vectors import clustered

from visualindex.ann import codes as half
from visualindex.ann.families import Effort, Parameters, build_ann, open_ann
from visualindex.capacity.sizes import FAMILIES
from visualindex.errors import ProblemError, ProblemType
from visualindex.spec.models import HnswSpec

ROWS, DIMENSION = 400, 16
family = pytest.mark.parametrize("family", FAMILIES[1:])


def codes() -> half.Codes:
    return half.encode(clustered(ROWS, DIMENSION, seed=0, clusters=10))


@pytest.fixture
def directory(family: str, tmp_path: Path) -> Path:
    build_ann(family, codes(), Parameters(HnswSpec(m=8, ef_construction=16))).write(tmp_path)
    return tmp_path


def problem(directory: Path, given: half.Codes | None = None) -> str:
    with pytest.raises(ProblemError) as caught:
        open_ann(directory, codes() if given is None else given)
    assert caught.value.type is ProblemType.INTERNAL
    assert "fetched again" in caught.value.detail
    return caught.value.detail


def rewritten(directory: Path, **changes: object) -> None:
    header = orjson.loads((directory / "ann.json").read_bytes())
    (directory / "ann.json").write_bytes(orjson.dumps(header | changes))


@family
def test_an_index_of_other_vectors_is_refused(directory: Path) -> None:
    assert "ann.json" in problem(directory, codes()[:-1])
    assert "400 rows, the vectors have 399" in problem(directory, codes()[:-1])
    assert "16 dimensions, the vectors have 15" in problem(directory, np.ascontiguousarray(codes()[:, :30]))


@family
def test_a_missing_index_is_named(directory: Path) -> None:
    (directory / "ann.faiss").unlink()
    assert "ann.faiss cannot be used: it is missing" in problem(directory)


@family
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "format.*a later release"),
        ({"family": "annoy"}, "family"),
        ({"rows": "400"}, "rows"),
        ({"effort": {"ef_search": 0, "nprobe": None, "rescore": 1}}, "effort.ef_search"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_header_says_what_is_wrong_with_it(directory: Path, change: dict[str, object], said: str) -> None:
    rewritten(directory, **change)
    with pytest.raises(ProblemError, match=rf"ann\.json cannot be used: .*{said}"):
        open_ann(directory, codes())


@family
def test_an_index_of_another_family_is_refused(directory: Path, family: str) -> None:
    other = "hnsw-sq8" if family != "hnsw-sq8" else "rabitq"
    rewritten(directory, family=other)
    assert "ann.faiss" in problem(directory)


@family
def test_the_effort_that_was_chosen_is_kept(family: str, directory: Path) -> None:
    index = build_ann(family, codes(), Parameters(HnswSpec(m=8, ef_construction=16)))
    index.effort = Effort(ef_search=33, nprobe=3, rescore=5)
    index.write(directory)
    found = open_ann(directory, codes())
    assert found is not None
    assert found.effort == index.effort


FUZZ = """
import shutil, sys
from pathlib import Path
import numpy as np
from visualindex.ann.families import Effort, open_ann
from visualindex.errors import ProblemError

directory, scratch = Path(sys.argv[1]), Path(sys.argv[2])
codes = np.fromfile(directory / "vectors.f16", np.uint8).reshape(400, 32)
queries = np.eye(4, 16, dtype=np.float32)
random = np.random.default_rng(7)
opened = refused = 0
for turn in range(300):
    name = ("ann.faiss", "ann.json")[turn % 2]
    for file in ("ann.faiss", "ann.json"):
        shutil.copy(directory / file, scratch / file)
    content = bytearray((directory / name).read_bytes())
    if turn % 3:
        for _ in range(int(random.integers(1, 4))):
            at = int(random.integers(min(len(content), 200) if turn % 5 else len(content)))
            content[at] ^= 1 << int(random.integers(8))
    else:
        del content[int(random.integers(len(content))):]
    (scratch / name).write_bytes(content)
    try:
        index = open_ann(scratch, codes)
    except ProblemError as problem:
        assert "ann." in problem.detail, problem.detail
        refused += 1
    else:
        # Numbers of the header that say how hard to look may have changed: the answer is whole all the same.
        found = index.search(queries, 5, None, index.effort)[1]
        assert ((found >= 0) & (found < 400)).all()
        opened += 1
print(opened, refused)
"""


@family
def test_no_damage_brings_the_process_down(family: str, directory: Path, tmp_path: Path) -> None:
    """In a process of its own: were damaged bytes to reach Faiss, it would die of them."""
    index = build_ann(family, codes(), Parameters(HnswSpec(m=8, ef_construction=16)))
    index.effort = Effort(ef_search=16, nprobe=4, rescore=4)
    index.write(directory)
    codes().tofile(directory / "vectors.f16")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, directory, scratch], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    opened, refused = map(int, done.stdout.split())
    assert opened + refused == 300
    assert refused > 250
