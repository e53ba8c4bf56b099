"""What a rebuild is asked for with, whoever asks: a request, or a schedule."""

from typing import Any

from visualindex.catalog import APART, PLACE
from visualindex.spec import Spec


def reindex_parameters(spec: Spec, *, activate: bool) -> dict[str, Any]:
    """The parameters of the job. With `placement: Job` the operator finds it a place, and gateways leave it alone."""
    parameters: dict[str, Any] = {"activate": activate, "attempts": spec.reindex.attempts}
    if spec.reindex.placement == "Job":
        parameters[PLACE] = APART
    return parameters
