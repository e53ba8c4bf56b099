"""`visualindex validate`: are these specs right, and if not, what is to be mended where."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from visualindex.spec import SpecError


def validate(
    files: Annotated[
        list[Path], typer.Argument(help="YAML files with VisualIndex documents.", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check spec files, taken as one service, and report every mistake.

    Exit code 0: all good; 1: mistakes found.
    """
    from visualindex.spec import SpecError, load_specs

    try:
        specs = load_specs(files)
    except SpecError as error:
        if as_json:
            typer.echo(
                json.dumps({"valid": False, "problems": [problem.as_dict() for problem in error.problems]})
            )
        else:
            _report(error)
        raise typer.Exit(1) from None
    names = [spec.name for spec in specs]
    if as_json:
        typer.echo(json.dumps({"valid": True, "indexes": names}))
    else:
        typer.secho(f"valid: {', '.join(names)}", fg="green")


def _report(error: "SpecError") -> None:
    for problem in error.problems:
        typer.echo(str(problem), err=True)
    count, files = len(error.problems), len({problem.source for problem in error.problems})
    mistakes = "1 mistake" if count == 1 else f"{count} mistakes"
    typer.secho(f"invalid: {mistakes} in {'1 file' if files == 1 else f'{files} files'}", err=True, fg="red")
