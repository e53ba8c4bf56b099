"""Ids as people type them: what is none is refused with what one looks like, and where they are listed."""

import re
import uuid

import typer

_GENERATION = re.compile(r"[0-9a-f]{16}")


def generation(typed: str) -> str:
    """The id of a generation. Raises BadParameter, which typer prints."""
    if not _GENERATION.fullmatch(typed):
        raise typer.BadParameter(
            f"{typed!r} is no generation: one is named by 16 hexadecimal digits, all of them; "
            "`visualindex index generations` lists them"
        )
    return typed


def job(typed: str) -> uuid.UUID:
    """The id of a job. Raises BadParameter, which typer prints."""
    return _uuid(typed, "job", "visualindex jobs list")


def key(typed: str) -> uuid.UUID:
    """The id of an API key. Raises BadParameter, which typer prints."""
    return _uuid(typed, "key", "visualindex keys list")


def _uuid(typed: str, what: str, listed_by: str) -> uuid.UUID:
    try:
        return uuid.UUID(typed)
    except ValueError:
        raise typer.BadParameter(
            f"{typed!r} is no {what}: one is named as 3b241101-e2bb-4255-8caf-4136c566a962 is; `{listed_by}` lists them"
        ) from None
