"""Two generations side by side: by what the gate or an earlier comparison measured, or by a job that measures them now."""

from visualindex.api.gate import GateReport, ShadowReport
from visualindex.api.generations import ShadowRequest
from visualindex.catalog import COMPARE, SHADOW, Catalog, GenerationRecord, JobRecord
from visualindex.errors import ProblemError, ProblemType
from visualindex.spec import ShadowSpec, VisualIndex


async def compared(catalog: Catalog, index: str, candidate: str, against: str) -> GateReport:
    """The latest report of `candidate` against `against`. Raises ProblemError NOT_FOUND where nothing was measured."""
    record = await catalog.get_generation(index, candidate)
    await catalog.get_generation(index, against)
    for job in await catalog.list_jobs(index):
        if job.kind == COMPARE and job.state == "done" and dict(job.parameters) == _sides(candidate, against):
            return _shown(GateReport.model_validate(job.result), record, against)
    report = None if record.gate is None else GateReport.model_validate(record.gate)
    if report is None or report.active is None or report.active.generation != against:
        detail = (
            f"generation {candidate} of index {index} was not measured against {against}: POST here does it"
        )
        raise ProblemError(ProblemType.NOT_FOUND, detail)
    return _shown(report, record, against)


def _shown(report: GateReport, record: GenerationRecord, against: str) -> GateReport:
    """With how the candidate answered live searches beside that other one, where it did."""
    if record.shadow is None or record.shadow["active"] != against:
        return report
    return report.model_copy(update={"shadow": ShadowReport.model_validate(record.shadow)})


async def request_comparison(catalog: Catalog, index: str, candidate: str, against: str) -> JobRecord:
    """Ask for a comparison. Raises ProblemError NOT_FOUND, or CONFLICT while two others are compared or one has ended."""
    for generation in (candidate, against):
        record = await catalog.get_generation(index, generation)
        if record.state in ("retired", "gone"):
            detail = (
                f"generation {generation} of index {index} is {record.state}: its files are no longer kept"
            )
            raise ProblemError(ProblemType.CONFLICT, detail)
    wanted = _sides(candidate, against)
    job, _ = await catalog.request_job(index, COMPARE, wanted)
    if dict(job.parameters) != wanted:
        detail = f"two other generations of index {index} are compared just now (job {job.job_id}): ask again later"
        raise ProblemError(ProblemType.CONFLICT, detail)
    return job


async def request_shadow(
    catalog: Catalog, resource: VisualIndex, candidate: str, asked: ShadowRequest
) -> JobRecord:
    """Ask for a shadow. Raises ProblemError NOT_FOUND, or CONFLICT where the candidate does not wait or another is shown."""
    record = await catalog.get_generation(resource.name, candidate)
    if record.state != "ready":
        detail = f"generation {candidate} of index {resource.name} is {record.state}: only one that is ready can be shown"
        raise ProblemError(ProblemType.CONFLICT, detail)
    terms = resource.spec.reindex.gate.shadow or ShadowSpec()
    terms = terms.model_copy(update=asked.model_dump(exclude_none=True))
    wanted = {"generation": candidate, "terms": terms.model_dump(mode="json")}
    job, _ = await catalog.request_job(resource.name, SHADOW, wanted)
    if dict(job.parameters) != wanted:
        detail = f"job {job.job_id} shows another candidate of index {resource.name}, or on other terms: cancel it, or wait"
        raise ProblemError(ProblemType.CONFLICT, detail)
    return job


def _sides(candidate: str, against: str) -> dict[str, str]:
    return {"candidate": candidate, "against": against}
