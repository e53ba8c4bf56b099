"""What commands print of the service's answers: as text for people, or as the JSON that the service sent."""

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

    from visualindex.api.generations import JobView

View = TypeVar("View", bound="BaseModel")

AsJson = Annotated[bool, typer.Option("--json", help="Print the service's answer as JSON.")]


def print_all(views: Sequence[View], text: Callable[[Sequence[View]], str], as_json: bool) -> None:
    """Print a list of answers."""
    if as_json:
        typer.echo(json.dumps([view.model_dump(mode="json") for view in views], indent=2))
    else:
        typer.echo(text(views))


def tell_joined(job: "JobView", activate: bool) -> None:
    """Say of a job that was under way already that it does more than was asked for."""
    if job.activate and not activate:
        also = "what it builds is activated, as somebody else asked: `visualindex jobs cancel` stops it"
        typer.echo(f"job {job.job_id} was under way already, and {also}", err=True)


def raise_failed(job: "JobView", index: str) -> None:
    """A job that did not come to its end, or did not activate what it was to, is an error: raises ProblemError CONFLICT."""
    from visualindex.errors import ProblemError, ProblemType

    if job.state in ("failed", "cancelled"):
        raise ProblemError(ProblemType.CONFLICT, job.problem or f"job {job.job_id} was {job.state}")
    result = job.result or {}
    if "kept_back" in result:
        generation = result["generation"]
        detail = f"generation {generation} is built and not activated: {result['kept_back']}"
        if result.get("gate") == "refused":
            command = f"visualindex index activate {index} {generation} --force"
            detail += (
                f". `visualindex index compare` shows what got worse, and `{command}` serves it all the same"
            )
        raise ProblemError(ProblemType.CONFLICT, detail)
