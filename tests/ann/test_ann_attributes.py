"""Attributes by row, fresh or mapped: what they say of a filter is what the reference says of each document."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visualindex.ann.attribute_columns import AttributeColumns, Attributes
from visualindex.ann.attributes import AttributeIndex, Key, fields
from visualindex.ann.instants import NEVER, instants_of_numbers
from visualindex.errors import ProblemError
from visualindex.filters import (
    And,
    Eq,
    Exists,
    Filter,
    In,
    Not,
    Or,
    Prefix,
    Range,
    Within,
    instant,
    matches,
    parse_filter,
    values_at,
)

TEXTS = ["", "a", "ab", "abc", "b", "é", "éa", "\U0001f6cb", "\uffff", "A"]
NUMBERS = [
    0,
    -0.0,
    1,
    1.0,
    2.5,
    -1,
    2**53,
    2**53 + 1,
    float(2**53),
    2**53 + 2,
    -(2**53) - 1,
    10**400,
    -(10**400),
    1e308,
]
DAY = 86_400_000_000
MARCH = 20_513 * DAY  # 2026-03-01T00:00:00Z
TIMES = [
    "2026-03-01",
    "2026-03-01T00:30:00+01:00",
    "2026-03-01t00:00:00.0000019z",
    "2026-03-02 10:00:00",
    "2026-02-30",
    "2026-03",
    MARCH // 10**6,
    MARCH / 10**6 + 0.25,
]
SCALARS = [*TEXTS, *NUMBERS, *TIMES, True, False]
FIELDS = ["category", "key", "metadata.x", "metadata.y", "metadata.x.y", "metadata.none"]

scalars = st.sampled_from(SCALARS)
values = st.recursive(
    st.one_of(st.none(), scalars),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["x", "y", "x.y", ""]), inner, max_size=2),
    ),
    max_leaves=4,
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "category": st.one_of(st.none(), st.sampled_from(TEXTS)),
        "key": st.one_of(st.none(), st.sampled_from(TEXTS)),
        "metadata": st.dictionaries(st.sampled_from(["x", "y"]), values, max_size=2),
    },
)
names = st.sampled_from(FIELDS)
bounds = st.one_of(
    st.dictionaries(
        st.sampled_from(["gt", "gte", "lt", "lte"]), st.sampled_from(kind), min_size=1, max_size=3
    )
    for kind in (TEXTS, NUMBERS)
)
leaves = st.one_of(
    st.builds(Eq, names, scalars),
    st.builds(lambda f, v: In(f, tuple(v)), names, st.lists(scalars, min_size=1, max_size=5)),
    st.builds(lambda f, b: Range(f, **b), names, bounds),
    st.builds(Prefix, names, st.sampled_from([text for text in TEXTS if text])),
    st.builds(Exists, names),
    st.builds(
        lambda f, spans: parse_filter({"within": {f: spans}}),
        names,
        st.lists(
            st.lists(st.sampled_from([None, *TIMES[:4], *TIMES[6:]]), min_size=2, max_size=2), max_size=3
        ),
    ),
)
trees: st.SearchStrategy[Filter] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(lambda terms: And(tuple(terms)), st.lists(inner, max_size=3)),
        st.builds(lambda terms: Or(tuple(terms)), st.lists(inner, max_size=3)),
    ),
    max_leaves=5,
)


def fresh(rows: list[Any]) -> AttributeIndex:
    """Rows appended in two batches, as writes come."""
    index, half = AttributeIndex(), len(rows) // 2
    index.append(0, [fields(row) for row in rows[:half]])
    index.append(half, [fields(row) for row in rows[half:]])
    return index


def reopened(rows: list[Any], folder: Path) -> AttributeColumns:
    AttributeColumns.build(fields(row) for row in rows).write(folder / "attributes.arrow")
    return AttributeColumns.open(folder / "attributes.arrow", len(rows))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("columns")


def found_by(attributes: Attributes, tree: Filter, rows: int) -> list[int]:
    """The passing rows by every way there is, which must agree."""
    passing: list[int] = np.flatnonzero(attributes.mask(tree, rows)).tolist()
    everything = np.arange(rows)
    assert everything[attributes.holding(tree, everything)].tolist() == passing
    for most in (0, 2, rows):
        few = attributes.matching(tree, rows, most)
        assert few is None or (few.tolist() == passing and len(passing) <= most)
    least, most = attributes.estimate(tree)
    assert least <= len(passing) <= most <= rows
    return passing


@settings(deadline=None)
@given(st.lists(documents, max_size=12), st.lists(trees, min_size=1, max_size=4))
def test_columns_and_index_agree_with_the_reference(
    folder: Path, rows: list[Any], wanted: list[Filter]
) -> None:
    index, columns = fresh(rows), reopened(rows, folder)
    for tree in wanted:
        expected = [at for at, row in enumerate(rows) if matches(tree, row)]
        assert found_by(columns, tree, len(rows)) == expected
        assert found_by(index, tree, len(rows)) == expected


@settings(deadline=None)
@given(st.lists(documents, max_size=12), names, st.randoms(use_true_random=False))
def test_facets_and_values_agree_with_the_documents(
    folder: Path, rows: list[Any], field: str, chance: random.Random
) -> None:
    chosen = np.array([at for at in range(len(rows)) if chance.random() < 0.5], np.int64)
    mask = np.zeros(len(rows), np.bool_)
    mask[chosen] = True
    expected = [comparable(rows[at], field) for at in chosen]
    counts: dict[Key, int] = {}
    for keys in expected:
        for key in keys:
            counts[key] = counts.get(key, 0) + 1
    for attributes in (fresh(rows), reopened(rows, folder)):
        assert [set(keys) for keys in attributes.values(field, chosen)] == expected
        assert attributes.facet(field, chosen) == attributes.facet(field, mask) == counts
        first = attributes.facet(field, mask, 2)
        assert list(first.values()) == sorted(counts.values(), reverse=True)[:2]


def ordered(keys: set[Key]) -> list[Any]:
    """Texts before numbers before booleans."""
    kinds = [
        (2, key[1]) if isinstance(key, tuple) else (0 if isinstance(key, str) else 1, key) for key in keys
    ]
    return sorted(kinds)


@settings(deadline=None)
@given(st.lists(documents, max_size=12), names, st.booleans())
def test_ranks_are_in_the_order_of_values(folder: Path, rows: list[Any], field: str, largest: bool) -> None:
    lists = [ordered(comparable(row, field)) for row in rows]
    expected = [None if not values else values[-1 if largest else 0] for values in lists]
    for attributes in (fresh(rows), reopened(rows, folder)):
        ranks = attributes.ranks(field, np.arange(len(rows)), largest=largest).tolist()
        assert [rank == -1 for rank in ranks] == [value is None for value in expected]
        known = [(rank, value) for rank, value in zip(ranks, expected, strict=True) if value is not None]
        assert [a < b for a, _ in known for b, _ in known] == [a < b for _, a in known for _, b in known]


def comparable(row: Any, field: str) -> set[Key]:
    found = [value for value in values_at(row, field) if isinstance(value, str | int | float)]
    return {("bool", value) if isinstance(value, bool) else value for value in found}


@given(st.lists(documents, max_size=12), st.data())
def test_rows_that_moved_keep_their_attributes(rows: list[Any], data: st.DataObject) -> None:
    kept = [at for at in range(len(rows)) if data.draw(st.booleans())]
    places = np.full(len(rows), -1, np.int64)
    places[kept] = np.arange(len(kept))
    moved = fresh(rows).renumbered(places)
    tree = data.draw(trees)
    expected = [at for at, row in enumerate(kept) if matches(tree, rows[row])]
    assert np.flatnonzero(moved.mask(tree, len(kept))).tolist() == expected
    least, most = moved.estimate(tree)
    assert least <= len(expected) <= max(most, len(kept))


def test_a_value_comes_back_as_it_was_given(tmp_path: Path) -> None:
    given_values = [3, 3.5, 2**53 + 1, 10**400, "é", True]
    columns = reopened([{"metadata": {"x": value}} for value in given_values], tmp_path)
    found = [one for (one,) in columns.values("metadata.x", np.arange(6))]
    assert found == [3, 3.5, 2**53 + 1, 10**400, "é", ("bool", True)]
    assert [type(one) for one in found[:3]] == [int, float, int]


def test_the_estimate_of_a_field_with_one_value_per_row_is_exact(tmp_path: Path) -> None:
    rows = [{"category": "ab"[at % 2], "metadata": {"n": at}} for at in range(100)]
    columns = reopened(rows, tmp_path)
    assert columns.estimate(Eq("category", "a")) == (50, 50)
    assert columns.estimate(Range("metadata.n", gte=10, lt=13)) == (3, 3)
    assert columns.estimate(And((Eq("category", "a"), Range("metadata.n", lt=80)))) == (30, 50)
    assert columns.estimate(Not(Exists("metadata.none"))) == (100, 100)


def test_times_are_compared_as_instants_however_they_are_written(tmp_path: Path) -> None:
    rows = [{"metadata": {"added": value}} for value in TIMES]
    tree = Within("metadata.added", ((MARCH, MARCH + 1),))
    expected = [at for at, row in enumerate(rows) if matches(tree, row)]
    assert [TIMES[at] for at in expected] == ["2026-03-01", MARCH // 10**6]
    for attributes in (fresh(rows), reopened(rows, tmp_path)):
        assert found_by(attributes, tree, len(rows)) == expected


def test_the_instants_of_numbers_are_those_of_each() -> None:
    dates = [253402300799.9, 253402300800.0, -62135596800.0, -62135596801.0]
    numbers = [0.0, -0.5, 1.0000005, *dates, 1e308, -1e308]
    expected = [NEVER if instant(number) is None else instant(number) for number in numbers]
    assert instants_of_numbers(np.array(numbers)).tolist() == expected


def test_rare_rows_of_a_conjunction_are_told_without_a_mask(tmp_path: Path) -> None:
    rows = [{"category": "a", "key": f"k{at}"} for at in range(1000)]
    columns = reopened(rows, tmp_path)
    rare = And((Not(Eq("category", "b")), In("key", ("k7", "k900", "nothing"))))
    assert columns.matching(rare, 1000, 10).tolist() == [7, 900]  # type: ignore[union-attr]
    assert columns.matching(Eq("category", "a"), 1000, 10) is None


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    rows = [{"key": f"k{at}", "metadata": {"tags": ["x", "y", str(at % 3)]}} for at in range(50)]
    for name in ("first", "second"):
        AttributeColumns.build(fields(row) for row in rows).write(tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_a_file_of_another_number_of_rows_is_refused(tmp_path: Path) -> None:
    reopened([{}, {}], tmp_path)
    with pytest.raises(ProblemError, match=r"attributes\.arrow cannot be used: it has 2 rows instead of 3"):
        AttributeColumns.open(tmp_path / "attributes.arrow", 3)
    with pytest.raises(ProblemError, match="missing"):
        AttributeColumns.open(tmp_path / "elsewhere.arrow")


def exercised(path: Path) -> None:
    """Everything a search may ask of a file."""
    columns = AttributeColumns.open(path)
    rows = np.arange(min(columns.row_count, 40))
    for field in (*FIELDS, *columns.fields):
        for leaf in (
            Eq(field, "ab"),
            Eq(field, 2**53 + 1),
            Range(field, gt=-1),
            Prefix(field, "a"),
            Exists(field),
        ):
            columns.estimate(leaf)
            columns.estimate(Within(field, ((0, None),)))
            columns.matching(leaf, columns.row_count, 20)
            columns.holding(leaf, rows)
            if columns.row_count < 10**6:
                columns.mask(leaf, columns.row_count)
        columns.values(field, rows)
        columns.facet(field, rows)


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    rows = [
        {
            "category": TEXTS[at % 10],
            "key": f"k{at}",
            "metadata": {"x": [SCALARS[at % len(SCALARS)], at], "y": {"x": at / 2}},
        }
        for at in range(40)
    ]
    path = tmp_path_factory.mktemp("intact") / "attributes.arrow"
    AttributeColumns.build(fields(row) for row in rows).write(path)
    return path.read_bytes()


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_file_gives_an_error_that_names_it_or_an_answer(
    intact: bytes, seed: int, tmp_path: Path
) -> None:
    """Wrong answers are the checksum's matter, which is verified before; here nothing may crash."""
    chance, path = random.Random(seed), tmp_path / "damaged.arrow"
    details = []
    for _ in range(50):
        damaged = bytearray(intact)
        if chance.random() < 0.2:
            del damaged[chance.randrange(len(damaged)) :]
        else:
            for _ in range(chance.choice([1, 1, 4, 16])):
                damaged[chance.randrange(len(damaged))] = chance.choice([0, 255, chance.randrange(256)])
        path.write_bytes(damaged)
        try:
            exercised(path)
        except ProblemError as problem:
            details.append(problem.detail)
    assert details
    assert all(detail.startswith(f"{path} cannot be used") for detail in details)
