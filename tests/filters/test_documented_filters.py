"""Every example on docs/filters.md does what the page says."""

import json
import re
from pathlib import Path

import pytest
import yaml

from visualindex.errors import ProblemError
from visualindex.filters import Schema, matches, parse_filter, parse_filter_text
from visualindex.spec.models import AttributeSpec

PAGE = (Path(__file__).parents[2] / "docs" / "filters.md").read_text()
BLOCKS = re.findall(r"^```([\w-]+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
ROWS = re.findall(r"^\| `+ ?(.+?) ?`+ \| `(\{.+\})` \| (matches|does not) \|$", PAGE, re.MULTILINE)


def blocks(kind: str) -> list[str]:
    return [text for name, text in BLOCKS if name == kind]


SCHEMA = Schema.of(
    AttributeSpec.model_validate(one) for one in yaml.safe_load(blocks("yaml")[0])["attributes"]
)
IMAGE = json.loads(blocks("image")[0])


def test_every_block_is_of_a_kind_that_is_tried() -> None:
    assert {name for name, _ in BLOCKS} == {
        *("filter", "json", "image", "yaml", "sh", "wrong-json", "problem", "wrong-text", "detail")
    }
    assert len(ROWS) == 18


@pytest.mark.parametrize(("text", "document", "outcome"), ROWS)
def test_both_forms_say_the_same_of_the_image(text: str, document: str, outcome: str) -> None:
    tree = parse_filter_text(text, schema=SCHEMA, now=1_800_000_000_000_000)
    assert tree == parse_filter(json.loads(document), schema=SCHEMA, now=1_800_000_000_000_000)
    assert matches(tree, IMAGE) == (outcome == "matches")


def test_the_filters_in_blocks_match_the_image() -> None:
    trees = [parse_filter_text(text, schema=SCHEMA) for text in blocks("filter")]
    trees += [parse_filter(json.loads(text), schema=SCHEMA) for text in blocks("json")]
    trees += [
        parse_filter_text(text, schema=SCHEMA) for text in re.findall(r"--filter '(.+)'", blocks("sh")[0])
    ]
    assert len(trees) == 4
    assert all(matches(tree, IMAGE) for tree in trees)


def test_the_errors_are_as_shown() -> None:
    with pytest.raises(ProblemError) as caught:
        parse_filter(json.loads(blocks("wrong-json")[0]), schema=SCHEMA)
    assert caught.value.document() == json.loads(blocks("problem")[0])
    with pytest.raises(ProblemError) as caught:
        parse_filter_text(blocks("wrong-text")[0].strip(), schema=SCHEMA)
    assert caught.value.detail == blocks("detail")[0].rstrip("\n")
