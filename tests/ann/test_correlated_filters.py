"""A filter may leave out just what lies near the query: the recall that was tuned for holds nevertheless."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from visualindex.ann import Ask, Base, ShardIndex, open_segment
from visualindex.ann.changes import Upserts
from visualindex.building.segments import build_segment
from visualindex.building.spool import Spool
from visualindex.filters import parse_filter
from visualindex.spec.models import HnswSpec, IndexSpec

ROWS, DIMENSION, CATEGORIES, QUERIES = 20_000, 32, 100, 100


class Rows:
    """Vectors around a hundred centres that are spread along a few directions, each with its nearest centre's number."""

    def __init__(self) -> None:
        random = np.random.default_rng(5)
        turn = random.standard_normal((12, DIMENSION))
        self.centres = _unit(random.standard_normal((CATEGORIES, 12)) @ turn)
        noise = random.standard_normal((ROWS + QUERIES, 12)) @ turn / 12**0.5
        points = _unit(
            self.centres[random.integers(0, CATEGORIES, ROWS + QUERIES)]
            + 0.6 * _unit(noise)
            + 0.02 * random.standard_normal((ROWS + QUERIES, DIMENSION))
        )
        self.vectors, self.queries = points[:ROWS], points[ROWS:]
        self.ids = random.integers(0, 256, (ROWS, 16)).astype(np.uint8)
        self.versions = np.arange(1, ROWS + 1)
        self.categories = (self.vectors @ self.centres.T).argmax(axis=1)

    def attributes(self) -> list[dict[str, Any]]:
        """The category of each."""
        return [{"metadata": {"category": int(number)}} for number in self.categories]


@pytest.fixture(scope="module")
def rows() -> Rows:
    return Rows()


def _unit(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    normal = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return normal.astype(np.float32)


def recall_without_the_nearest(index: ShardIndex, rows: Rows, left_out: int) -> float:
    """Mean recall@10 of searches that leave out the categories that are nearest to the query."""
    stored = rows.vectors.astype(np.float16).astype(np.float32)
    recalls = []
    for query in rows.queries:
        nearest = np.argsort(-(rows.centres @ query))[:left_out]
        named = {"metadata.category": [int(number) for number in nearest]}
        tree = parse_filter({"not": {"in": named}}) if left_out else None
        hits = index.look(query[None], Ask(10, tree)).hits
        assert hits.counts[0] == 10
        best = np.sort(stored[~np.isin(rows.categories, nearest)] @ query)[-10]
        recalls.append(np.mean(hits.scores[0] >= best - 1e-4))
    return float(np.mean(recalls))


@pytest.mark.parametrize("family", ["hnsw", "ivf-sq8", "ivf-pq", "rabitq"])
def test_recall_holds_in_a_segment(rows: Rows, tmp_path: Path, family: str) -> None:
    spool = Spool(tmp_path, DIMENSION)
    with spool:
        spool.add(rows)  # type: ignore[arg-type]  # it reads no more of rows than these have
    folder = tmp_path / "segment"
    folder.mkdir()
    spec = IndexSpec.model_validate({"family": family, "flatBelow": 1000})
    built = build_segment(spool, folder, spec, wanted=lambda: True, threads=1)
    assert built.recall is not None
    segment = open_segment(folder, DIMENSION)
    index = ShardIndex(
        DIMENSION,
        flat_below=1000,
        hnsw=HnswSpec(),
        memory_limit=1 << 30,
        bases=[Base.of(segment, range(1024))],
    )
    found = [recall_without_the_nearest(index, rows, left_out) for left_out in (0, 1, 5, 30, 70)]
    assert min(found) >= 0.95, found


def test_recall_holds_among_fresh_rows(rows: Rows) -> None:
    index = ShardIndex(DIMENSION, flat_below=1000, hnsw=HnswSpec(), memory_limit=1 << 30)
    index.apply(
        Upserts(ids=rows.ids, vectors=rows.vectors, versions=rows.versions, attributes=rows.attributes())
    )
    index.maintain()
    found = [recall_without_the_nearest(index, rows, left_out) for left_out in (1, 5, 30)]
    assert min(found) >= 0.95, found
