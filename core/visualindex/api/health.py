"""What probes are told."""

from typing import Literal

from pydantic import BaseModel, Field


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = Field(description="Always ok: a process that is not, does not answer.")


class Readiness(BaseModel):
    """Whether every index can be searched."""

    status: Literal["ready", "unready"] = Field(description="`unready` comes with status 503.")
    indexes: list[str] = Field(description="The indexes of this service.")
    reasons: dict[str, str] = Field(description="`database` or an index → what keeps it from being ready.")
