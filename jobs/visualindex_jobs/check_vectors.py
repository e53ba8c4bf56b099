"""Images that no search by vector can find, because they have none of the index's encoder."""

from visualindex.catalog import REINDEX
from visualindex.checking import Finding, FindingKind
from visualindex.checking.findings import EXAMPLES
from visualindex_jobs.checked import Checked


async def check_vectors(checked: Checked) -> None:
    """Report images without a vector; a repair asks for a job that encodes them again."""
    checked.go_on("looking for images without a vector", 0, 0)
    checked.report.images = await checked.catalog.count_images(checked.index)
    count, some = await checked.catalog.without_vector(checked.index, checked.fingerprint, EXAMPLES)
    if not count:
        return
    action = "check again with repair: a job encodes them then"
    if checked.repair:
        job, _ = await checked.catalog.request_job(checked.index, REINDEX, {"activate": False})
        action = f"job {job.job_id} encodes them"
    examples = tuple(map(str, some))
    checked.report.findings.append(
        Finding(FindingKind.MISSING_VECTOR, "database", count, examples=examples, action=action)
    )
