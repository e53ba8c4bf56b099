"""Filters by colour: what they mean, in both forms, and what is refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visualindex.colours import NAMES, packed_array
from visualindex.errors import ProblemError
from visualindex.filters import (
    Colour,
    Schema,
    colours_passing,
    matches,
    parse_filter,
    parse_filter_text,
    to_json,
    to_text,
)
from visualindex.spec.models import AttributeSpec

RED, DARK_RED, WHITE = [200, 20, 20], [130, 10, 10], [255, 255, 255]

leaves = st.one_of(
    st.builds(Colour, name=st.sampled_from(NAMES), min_share=st.floats(0, 1)),
    st.builds(
        Colour,
        near=st.integers(0, 0xFFFFFF).map(lambda number: f"#{number:06x}"),
        within=st.floats(0, 150),
        min_share=st.floats(0, 1),
    ),
)
byte = st.integers(0, 255)
pictures = st.lists(st.tuples(byte, byte, byte, st.integers(1, 51)), max_size=5, unique=True)


def image(*colours: tuple[list[int], int]) -> dict[str, Any]:
    return {"colours": [[*rgb, share] for rgb, share in colours]}


def test_a_name_passes_the_images_that_have_enough_of_it() -> None:
    red = parse_filter({"colour": {"name": "red", "min_share": 0.2}})
    assert matches(red, image((RED, 51)))
    assert not matches(red, image((RED, 50)))
    assert not matches(red, image((WHITE, 255)))


def test_shades_of_one_name_count_together() -> None:
    assert matches(
        parse_filter({"colour": {"name": "red", "min_share": 0.5}}), image((RED, 70), (DARK_RED, 70))
    )


def test_near_passes_what_looks_alike() -> None:
    near = parse_filter({"colour": {"near": "#aa3322", "within": 15, "min_share": 0.1}})
    assert matches(near, image(([0xB0, 0x38, 0x28], 60)))
    assert not matches(near, image(([0x22, 0x33, 0xAA], 60)))


def test_an_image_without_colours_passes_only_what_is_negated() -> None:
    red = {"colour": {"name": "red"}}
    for missing in ({}, {"colours": None}, {"colours": []}):
        assert not matches(parse_filter(red), missing)
        assert matches(parse_filter({"not": red}), missing)


@given(leaves, st.lists(pictures, max_size=20))
def test_many_rows_at_once_agree_with_one_at_a_time(leaf: Colour, rows: list[Any]) -> None:
    expected = [matches(leaf, {"colours": row}) for row in rows]
    assert colours_passing(leaf, packed_array(rows)).tolist() == expected


def test_blocks_of_rows_join() -> None:
    rows = np.zeros((70_000, 5, 4), np.uint8)
    rows[[0, 32_767, 32_768, 69_999], 2] = [*RED, 255]
    assert np.flatnonzero(colours_passing(Colour(name="red"), rows)).tolist() == [0, 32_767, 32_768, 69_999]


@given(leaves)
def test_both_forms_come_back_as_they_were(leaf: Colour) -> None:
    assert parse_filter(to_json(leaf)) == leaf
    assert parse_filter_text(to_text(leaf)) == leaf


def test_the_text_form_reads_like_a_call() -> None:
    assert parse_filter_text('colour("red", 0.2)') == Colour(name="red", min_share=0.2)
    assert parse_filter_text('not colour("#A32")') == parse_filter({"not": {"colour": {"near": "#aa3322"}}})
    assert parse_filter_text("colour('#aa3322', 8)") == Colour(near="#aa3322", within=8.0)


def test_a_declared_colour_is_that_of_the_picture() -> None:
    schema = Schema.of([AttributeSpec(name="shade", type="colour")])
    assert parse_filter_text('shade = "red"', schema=schema) == Colour(name="red")
    either = parse_filter_text('shade in ("red", "#0000ff")', schema=schema)
    assert [matches(either, image((rgb, 99))) for rgb in (RED, [0, 0, 250], WHITE)] == [True, True, False]
    some = parse_filter_text("exists(shade)", schema=schema)
    assert [matches(some, one) for one in (image((WHITE, 1)), image())] == [True, False]
    with pytest.raises(ProblemError, match="shade is a colour: compare it with one of black, white"):
        parse_filter_text('shade = "scarlet"', schema=schema)


@pytest.mark.parametrize(
    ("operand", "pointer", "detail"),
    [
        ("red", "/colour", "needs an object"),
        ({}, "/colour", "give one of name and near"),
        ({"name": "red", "near": "#fff"}, "/colour", "give one of name and near"),
        ({"name": "scarlet"}, "/colour/name", "'scarlet' is no colour name; use one of: black, white"),
        ({"name": 3}, "/colour/name", "no colour name"),
        ({"near": "aa332"}, "/colour/near", "six hexadecimal digits"),
        ({"near": 7}, "/colour/near", "six hexadecimal digits"),
        ({"name": "red", "within": 3}, "/colour/within", "belongs to near"),
        ({"near": "#fff", "within": -1}, "/colour/within", "no number from 0 to 150"),
        ({"near": "#fff", "within": True}, "/colour/within", "no number from 0 to 150"),
        ({"name": "red", "min_share": 20}, "/colour/min_share", "no number from 0 to 1"),
        ({"name": "red", "minShare": 0.2}, "/colour/minShare", "unknown key 'minShare'"),
    ],
)
def test_a_mistake_is_named_with_its_place(operand: Any, pointer: str, detail: str) -> None:
    with pytest.raises(ProblemError, match=detail) as caught:
        parse_filter({"colour": operand})
    assert caught.value.extra["pointer"] == pointer
