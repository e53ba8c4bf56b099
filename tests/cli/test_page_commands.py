"""Pages about rebuilds call commands that exist, with options that they take, and show specs that are valid."""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from visualindex.cli import app
from visualindex.spec import VisualIndex

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("nightly-reindex.md", "reindexing-at-size.md", "reindexing.md", "schedules.md", "ingest.md")
_BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def calls(page: str) -> Iterator[list[str]]:
    """The words after `visualindex` of each call: lines of shell blocks, and lines that begin with a prompt."""
    for language, block in _BLOCK.findall((DOCS / page).read_text()):
        joined = block.replace("\\\n", " ")
        for line in joined.splitlines():
            call = line.removeprefix("$ ")
            if call.startswith("visualindex ") and (language == "sh" or line.startswith("$ ")):
                yield shlex.split(call, comments=True)[1:]


def command_of(words: Sequence[str]) -> tuple[Any, list[str]]:
    """The command that words name, and its arguments."""
    found: Any = typer.main.get_group(app)
    rest = list(words)
    while hasattr(found, "commands"):
        assert rest, f"visualindex {' '.join(words)} names no command"
        name = rest.pop(0)
        assert name in found.commands, f"visualindex {' '.join(words)}: there is no {name}"
        found = found.commands[name]
    return found, rest


@pytest.mark.parametrize("page", PAGES)
def test_a_page_calls_what_exists(page: str) -> None:
    called = list(calls(page))
    for words in called:
        command, rest = command_of(words)
        known = {option for one in command.params for option in one.opts}
        given = {word.partition("=")[0] for word in rest if word.startswith("-")}
        assert given <= known, f"{page}: visualindex {' '.join(words)} takes {sorted(known)}"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_specs_that_are_valid(page: str) -> None:
    blocks = [text for language, text in _BLOCK.findall((DOCS / page).read_text()) if language == "yaml"]
    for document in filter(None, (yaml.safe_load(text) for text in blocks)):
        if "apiVersion" in document:
            VisualIndex.model_validate(document)
