"""The benchmark of engines tells the truth: its data are as hard as it says, its truth is exact, its rows are measured."""

import json
import threading
from collections.abc import Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from benchmarks.engine import measure, over_http, profile
from benchmarks.engine.grow import Divided
from benchmarks.engine.peers.faiss_alone import Engine as FaissAlone
from benchmarks.engine.peers.ours import Engine as Ours
from benchmarks.engine.table import HEAD, table
from benchmarks.engine.vectors import Dataset, clustered, divided, intrinsic_dimension, recall

ROWS, DIMENSION = 2_000, 64


@pytest.fixture(scope="module")
def data() -> Dataset:
    return divided(*clustered(ROWS + 60, DIMENSION), queries=40, spare=20, seed=1)


def test_what_is_held_out_is_in_no_other_part(data: Dataset) -> None:
    assert (len(data.vectors), len(data.queries), len(data.spare)) == (ROWS, 40, 20)
    assert len(np.unique(np.concatenate([data.vectors, data.queries, data.spare]), axis=0)) == ROWS + 60


def test_the_truth_is_what_sorting_all_scores_finds(data: Dataset) -> None:
    scores = data.queries @ data.vectors.T
    assert (np.argsort(-scores, axis=1, kind="stable")[:, :10] == data.truth).all()
    scores[data.labels[None] != data.asked[:, None]] = -np.inf
    for row, found in zip(scores, data.filtered_truth, strict=True):
        matching = int(np.isfinite(row).sum())
        assert np.argsort(-row, kind="stable")[: min(10, matching)].tolist() == [n for n in found if n >= 0]


def test_filters_ask_for_about_a_hundredth(data: Dataset) -> None:
    shares = [(data.labels == label).mean() for label in np.unique(data.asked)]
    assert min(shares) > 0.005
    assert max(shares) < 0.02


def test_a_data_set_reads_as_it_was_written(data: Dataset, tmp_path: Path) -> None:
    data.write(tmp_path)
    again = Dataset.read(tmp_path)
    assert all((getattr(again, name) == getattr(data, name)).all() for name in asdict(data))


def test_recall_counts_missing_rows_as_missed() -> None:
    truth = np.array([[1, 2, 3, 4], [5, 6, -1, -1]])
    assert recall(np.array([[4, 3, 9, -1], [6, 5, -1, -1]]), truth) == pytest.approx((0.5 + 1.0) / 2)


@pytest.mark.parametrize("dimension", [4, 12])
def test_the_estimate_finds_the_dimension_that_was_put_in(dimension: int) -> None:
    random = np.random.default_rng(0)
    points = random.standard_normal((4_000, dimension + 1)).astype(np.float32)
    turned = points @ np.linalg.qr(random.standard_normal((64, dimension + 1)))[0].T.astype(np.float32)
    sphere = turned / np.linalg.norm(turned, axis=1, keepdims=True)
    assert intrinsic_dimension(sphere) == pytest.approx(dimension, rel=0.15)


def test_clustered_vectors_are_of_far_lower_dimension_than_their_space() -> None:
    vectors, _ = clustered(8_000, 128)
    assert 10 < intrinsic_dimension(vectors) < 40


@pytest.mark.parametrize("engine", [Ours, FaissAlone])
def test_an_engine_is_measured_at_the_recall_that_is_asked_of_all(
    engine: type[Ours | FaissAlone], data: Dataset, tmp_path: Path
) -> None:
    peer = engine(tmp_path)
    try:
        row = measure.measured(peer, data, tmp_path, seconds=0.1, writes=10)
    finally:
        peer.close()
    assert row.plain.recall >= measure.TARGET
    assert row.filtered is not None
    assert row.filtered.recall >= measure.TARGET
    assert row.plain.per_second > 0
    assert row.resurrected == 0
    lines = table([json.loads(json.dumps(asdict(row)))]).splitlines()
    assert lines[2].count("|") == len(HEAD) + 1


def test_an_engine_that_failed_is_named_with_its_error() -> None:
    assert "- nosuch: not measured: it ended with 1: no module" in table(
        [{"name": "nosuch", "error": "it ended with 1: no module"}]
    )


def test_shards_find_together_what_one_finds(data: Dataset, tmp_path: Path) -> None:
    engine = Divided(3, tmp_path)
    engine.build(data)
    engine.tune(512)
    found = np.array([engine.search(query, None, 10) for query in data.queries])
    engine.close()
    assert recall(found, data.truth) > 0.99


class _Answering(BaseHTTPRequestHandler):
    seen: list[bytes]
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.seen.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[tuple[str, list[bytes]]]:
    seen: list[bytes] = []
    handler = type("Handler", (_Answering,), {"seen": seen})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as answering:
        threading.Thread(target=answering.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{answering.server_port}", seen
        answering.shutdown()


@pytest.mark.skipif(not over_http.available(), reason="wrk is not installed")
def test_every_body_is_sent_in_turn(server: tuple[str, list[bytes]]) -> None:
    url, seen = server
    answered = over_http.load(url, "/query", [b'{"n":1}', b'{"n":2}'], connections=1, seconds=1)
    assert answered.errors == 0
    assert sorted(seen[:2]) == [b'{"n":1}', b'{"n":2}']
    assert seen[2:4] == seen[:2]
    assert answered.requests <= len(seen)


def test_waiting_threads_do_not_count_as_work(tmp_path: Path) -> None:
    raw = tmp_path / "samples"
    raw.write_text(
        "main (a/b.py:1);hot (a/c.py:7) 3\n"
        "main (a/b.py:1);hot (a/c.py:9) 1\n"
        "main (a/b.py:2);Thread.run (threading.py:982) 9\n"
    )
    found = profile.read_samples(raw)
    assert found.samples == 4
    assert found.own == {"hot (a/c.py)": 4}
    assert found.total == {"hot (a/c.py)": 4, "main (a/b.py)": 4}
