"""Colours of rows, fresh or mapped: filters over them find what the reference finds, also after rows have moved."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visualindex.ann.attribute_columns import AttributeColumns, Attributes
from visualindex.ann.attributes import AttributeIndex, fields
from visualindex.filters import And, Colour, Eq, Filter, Not, Or, matches

RED, BLUE, RARE = Colour(name="red", min_share=0.2), Colour(name="blue"), Colour(near="#12fe34", within=5)
TREES: list[Filter] = [
    RED,
    BLUE,
    RARE,
    Not(RED),
    And((RED, Eq("category", "a"))),
    Or((RED, BLUE)),
    And((Not(BLUE), RED)),
]


def rows(count: int = 500) -> list[dict[str, Any]]:
    random = np.random.default_rng(4)
    made: list[dict[str, Any]] = []
    for number in range(count):
        colours = [
            [*random.integers(0, 256, 3).tolist(), int(random.integers(1, 52))] for _ in range(number % 6)
        ]
        made.append({"category": "ab"[number % 2], "colours": colours or None})
    return made


def fresh(documents: list[dict[str, Any]]) -> AttributeIndex:
    index = AttributeIndex()
    for start in range(0, len(documents), 70):
        index.append(start, [fields(one) for one in documents[start : start + 70]])
    return index


def mapped(documents: list[dict[str, Any]], folder: Path) -> AttributeColumns:
    AttributeColumns.build(fields(one) for one in documents).write(folder / "attributes.arrow")
    return AttributeColumns.open(folder / "attributes.arrow", len(documents))


@pytest.mark.parametrize("kind", ["fresh", "mapped"])
def test_what_is_found_is_what_the_reference_finds(kind: str, tmp_path: Path) -> None:
    documents = rows()
    attributes: Attributes = fresh(documents) if kind == "fresh" else mapped(documents, tmp_path)
    for tree in TREES:
        expected = [row for row, one in enumerate(documents) if matches(tree, one)]
        assert np.flatnonzero(attributes.mask(tree, 500)).tolist() == expected
        some = np.arange(3, 500, 7)
        assert some[attributes.holding(tree, some)].tolist() == [row for row in expected if row in some]
        least, most = attributes.estimate(tree)
        assert least <= len(expected) <= most


def test_a_reader_sees_no_rows_that_it_does_not_know() -> None:
    documents = rows(140)
    assert fresh(documents).mask(RED, 30).tolist() == [matches(RED, one) for one in documents[:30]]


def test_rows_that_moved_keep_their_colours() -> None:
    documents = rows(200)
    places = np.full(200, -1)
    places[::3] = np.arange(67)
    moved = fresh(documents).renumbered(places)
    for tree in TREES:
        assert moved.mask(tree, 67).tolist() == [matches(tree, one) for one in documents[::3]]


def test_rows_without_colours_cost_nothing(tmp_path: Path) -> None:
    documents = [{"category": "a"} for _ in range(50)]
    columns = mapped(documents, tmp_path)
    assert not columns.mask(RED, 50).any()
    assert not fresh(documents).mask(RED, 50).any()
    assert columns.fields == ["category"]


def test_colours_are_no_field_of_their_own(tmp_path: Path) -> None:
    assert mapped(rows(), tmp_path).fields == ["category"]
