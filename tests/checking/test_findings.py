"""Reports: what is left is what was found and not mended."""

from visualindex.checking import Finding, FindingKind, Report, in_short
from visualindex.checking.findings import EXAMPLES


def test_an_index_is_consistent_when_everything_found_was_mended() -> None:
    report = Report(repair=True)
    assert report.to_json()["consistent"] is True
    report.findings.append(Finding(FindingKind.LOST_ROW, "shard 0", 3, 3))
    assert report.to_json()["consistent"] is True
    report.findings.append(Finding(FindingKind.MISSING_ORIGINAL, "object store", 2, 1, ("x",) * 99))
    document = report.to_json()
    assert (document["consistent"], document["found"], document["mended"]) == (False, 5, 4)
    assert len(document["findings"][1]["examples"]) == EXAMPLES
    assert in_short(document) == "1 missing-original in object store"
