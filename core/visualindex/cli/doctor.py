"""`visualindex doctor`: what on this machine will keep the service from running, before it is tried."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from visualindex.cli.checks import Check

PORTS = (8000, 8265)
"""HTTP of the service and Ray's dashboard."""

_MARKS = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}


def doctor(
    state: Annotated[
        Path, typer.Option(envvar="VISUALINDEX_STATE", help="Folder where the service keeps its state.")
    ] = Path(".visualindex"),
    port: Annotated[list[int] | None, typer.Option(help="Port that must be free; may be repeated.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check this machine and say what to do.

    Exit code 0: nothing fails; 1: something does.
    """
    from visualindex.cli.checks import run_checks

    checks = []
    for check in run_checks(state, port or PORTS):
        checks.append(check)
        if not as_json:
            _print(check)
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks]))
    if any(check.level == "fail" for check in checks):
        raise typer.Exit(1)


def _print(check: "Check") -> None:
    mark, colour = _MARKS[check.level]
    typer.echo(f"{typer.style(mark, fg=colour)}  {check.name}: {check.found}")
    if check.advice:
        typer.echo(f"      → {check.advice}")
