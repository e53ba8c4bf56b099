"""Every command is in docs/command-line.md."""

from pathlib import Path

import pytest
import typer.main

from visualindex.cli import app

PAGE = (Path(__file__).parents[2] / "docs/command-line.md").read_text()


@pytest.mark.parametrize("command", sorted(typer.main.get_group(app).commands))
def test_a_command_is_documented(command: str) -> None:
    assert f"visualindex {command}" in PAGE


@pytest.mark.parametrize("command", sorted(typer.main.get_group(app).commands))
def test_a_command_says_what_it_does(command: str) -> None:
    assert typer.main.get_group(app).commands[command].help
