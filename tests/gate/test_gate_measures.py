"""What is measured of generations that are known to be good, to have lost something, or to be mixed up."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from visualindex.ann.graph import Abandoned
from visualindex.api.gate import GateReport
from visualindex.gate.asking import ask
from visualindex.gate.labels import CategoryLabels, FeedbackLabels
from visualindex.gate.limits import Limits
from visualindex.gate.opened import Opened
from visualindex.gate.probes import Copies, Probes, perturbed
from visualindex.gate.reporting import report
from visualindex.spec import IndexSpec

from .scene import SPEC, generation, ids_of, probes_of, vectors_of

ALL = range(300)


def measured(
    candidate: Opened,
    active: Opened | None,
    probes: Probes,
    labels: CategoryLabels | FeedbackLabels | None = None,
) -> GateReport:
    copies = perturbed(probes.ids, probes.vectors)
    earlier = None if active is None else copies
    return report(ask(candidate, active, probes, copies, earlier), labels, Limits.of(SPEC), encoded=False)


@pytest.mark.parametrize("shards", [1, 3])
def test_a_generation_agrees_with_itself_however_it_is_sharded(tmp_path: Path, shards: int) -> None:
    ids, vectors = ids_of(ALL), vectors_of(ALL)
    active = generation(tmp_path / "active", ids, vectors)
    same = generation(tmp_path / "same", ids, vectors, shards=shards)
    found = measured(same, active, probes_of(ids, vectors))
    assert (found.verdict, found.worse_count, found.compared) == ("passed", 0, 300)
    assert (found.agreement, found.score_shift) == (1.0, 0.0)
    assert (found.candidate.recall, found.candidate.self_first) == (1.0, 1.0)


def test_images_that_are_new_or_were_deleted_are_no_disagreement(tmp_path: Path) -> None:
    active = generation(tmp_path / "active", ids_of(range(200)), vectors_of(range(200)))
    later = range(50, 1000)
    candidate = generation(tmp_path / "candidate", ids_of(later), vectors_of(later))
    found = measured(candidate, active, probes_of(ids_of(later), vectors_of(later)))
    assert (found.agreement, found.score_shift, found.verdict) == (1.0, 0.0, "passed")
    assert (found.compared, found.probes) == (150, 950)


def test_images_that_got_another_picture_are_no_disagreement(tmp_path: Path) -> None:
    ids, vectors = ids_of(ALL), vectors_of(ALL)
    active = generation(tmp_path / "active", ids, vectors)
    replaced = np.concatenate([vectors_of(range(150), seed=9), vectors[150:]])
    versions = np.where(np.arange(300) < 150, 2, 1).astype(np.int64)
    candidate = generation(tmp_path / "candidate", ids, replaced, versions=versions)
    found = measured(candidate, active, probes_of(ids, replaced))
    assert (found.compared, found.agreement, found.verdict) == (150, 1.0, "passed")


def test_images_that_were_lost_are_not_found_and_named(tmp_path: Path) -> None:
    ids, vectors = ids_of(ALL), vectors_of(ALL)
    active = generation(tmp_path / "active", ids, vectors)
    candidate = generation(tmp_path / "candidate", ids[:150], vectors[:150])
    found = measured(candidate, active, probes_of(ids, vectors))
    assert found.candidate.self_in_ten == 0.5
    assert [failure.measure for failure in found.failures] == ["selfRetrieval"]
    lost = {one.tobytes() for one in ids[150:]}
    assert found.worse_count == 150
    assert {query.image_id.bytes for query in found.worse} <= lost


def test_vectors_that_are_not_those_of_the_catalog_find_other_images(tmp_path: Path) -> None:
    ids, vectors = ids_of(ALL), vectors_of(ALL)
    active = generation(tmp_path / "active", ids, vectors)
    broken = generation(tmp_path / "broken", ids, np.roll(vectors, 1, axis=0))
    found = measured(broken, active, probes_of(ids, vectors))
    assert found.verdict == "refused"
    assert (found.candidate.self_first or 0) < 0.05
    assert {"selfRetrieval", "agreement"} <= {failure.measure for failure in found.failures}


def test_an_approximate_index_is_measured_against_exact_search(tmp_path: Path) -> None:
    many = range(3000)
    index = IndexSpec(flat_below=0, family="hnsw", target_recall=0.5)
    candidate = generation(tmp_path / "candidate", ids_of(many), vectors_of(many), index=index)
    some = range(200)
    found = measured(candidate, None, probes_of(ids_of(some), vectors_of(some)))
    assert found.active is None
    assert 0.3 < (found.candidate.recall or 0) < 1.0


def test_two_images_of_one_picture_find_each_other_for_themselves(tmp_path: Path) -> None:
    ids, vectors = ids_of(ALL), np.repeat(vectors_of(range(20)), 15, axis=0)
    candidate = generation(tmp_path / "candidate", ids, vectors)
    found = measured(candidate, None, probes_of(ids, vectors))
    assert (found.candidate.self_first, found.verdict) == (1.0, "passed")


def test_precision_falls_by_what_people_found_relevant(tmp_path: Path) -> None:
    ids, vectors = ids_of(ALL), vectors_of(ALL)
    active = generation(tmp_path / "active", ids, vectors)
    hits = active.ask(vectors, 11)
    relevant = {
        one.tobytes(): frozenset(hits.ids[place, 1:4, :].reshape(-1, 16)[hit].tobytes() for hit in range(3))
        for place, one in enumerate(ids)
    }
    worse = generation(tmp_path / "worse", ids, vectors_of(ALL, seed=1), fingerprint="g")
    probes = probes_of(ids, vectors_of(ALL, seed=1))
    found = measured(worse, active, probes, FeedbackLabels(relevant))
    assert found.labels == "feedback"
    assert (found.active and found.active.precision) == 1.0
    assert (found.precision_drop or 0) > 0.9
    assert "precision" in {failure.measure for failure in found.failures}


def test_an_empty_generation_has_nothing_to_be_judged_by(tmp_path: Path) -> None:
    empty = generation(tmp_path / "empty", ids_of(range(0)), np.zeros((0, 32), np.float32))
    found = measured(empty, None, probes_of(ids_of(range(0)), np.zeros((0, 32), np.float32)))
    assert (found.verdict, found.probes, found.candidate.recall) == ("passed", 0, None)


def test_a_copy_that_is_not_found_counts_by_its_worst(tmp_path: Path) -> None:
    ids, vectors = ids_of(ALL), vectors_of(ALL)
    candidate = generation(tmp_path / "candidate", ids, vectors)
    probes = probes_of(ids[:1], vectors[:1])
    copies = Copies(np.concatenate([probes.vectors, -probes.vectors]), np.zeros(2, np.int64))
    found = report(ask(candidate, None, probes, copies, None), None, Limits.of(SPEC), encoded=True)
    assert (found.candidate.self_first, found.copies) == (0.5, "encoded")
    assert [query.rank_after for query in found.worse] == [None]


def test_probes_are_the_same_for_the_same_images(tmp_path: Path) -> None:
    many = range(2000)
    one = generation(tmp_path / "one", ids_of(many), vectors_of(many))
    more = generation(tmp_path / "more", ids_of(range(2200)), vectors_of(range(2200)), shards=1)
    first, second = ({i.tobytes() for i in g.spread(100)} for g in (one, more))
    assert len(first) > 90
    assert len(first & second) > 75


def test_asking_ends_soon_after_it_is_not_wanted(tmp_path: Path) -> None:
    ids, vectors = ids_of(ALL), vectors_of(ALL)
    looks = iter(range(5))
    asked = generation(tmp_path / "asked", ids, vectors, check=lambda: stop_after(looks))
    with pytest.raises(Abandoned):
        asked.ask(vectors, 10, exact=True)
    with pytest.raises(Abandoned):
        asked.took_ms(vectors[0], 10)


def stop_after(looks: Iterator[int]) -> None:
    if next(looks, None) is None:
        raise Abandoned


def test_many_queries_are_answered_as_each_alone(tmp_path: Path) -> None:
    asked = generation(tmp_path / "asked", ids_of(ALL), vectors_of(ALL), shards=2)
    together = asked.ask(vectors_of(range(20)), 10)
    alone = [asked.ask(vectors_of(range(one, one + 1)), 10) for one in range(20)]
    for name in ("ids", "scores", "counts", "versions"):
        np.testing.assert_array_equal(
            getattr(together, name), np.concatenate([getattr(one, name) for one in alone])
        )
