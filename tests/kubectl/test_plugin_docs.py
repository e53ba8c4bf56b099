"""Every command is in docs/kubectl.md, and says what it does."""

from pathlib import Path

import pytest
import typer.main

from visualindex_operator.kubectl.main import app

PAGE = (Path(__file__).parents[2] / "docs/kubectl.md").read_text()
COMMANDS = typer.main.get_group(app).commands


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_command_is_documented(command: str) -> None:
    assert f"kubectl visualindex {command}" in PAGE
    assert COMMANDS[command].help
