"""Having two generations compared, unless they were."""

from visualindex.api.gate import GateReport
from visualindex.cli.watching import watch
from visualindex.client import Client
from visualindex.errors import ProblemError, ProblemType


def measured(
    client: Client, index: str, generation: str, other: str, *, again: bool, quiet: bool
) -> GateReport:
    """The report of a generation against another. Raises ProblemError as the client does, and when the job fails."""
    if not again:
        try:
            return client.get_comparison(index, generation, other)
        except ProblemError as problem:
            if problem.type is not ProblemType.NOT_FOUND:
                raise
    job = watch(client, index, client.compare_generations(index, generation, other), quiet=quiet)
    if job.state != "done":
        raise ProblemError(ProblemType.CONFLICT, job.problem or f"job {job.job_id} was {job.state}")
    return GateReport.model_validate(job.result)
