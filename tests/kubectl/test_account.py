"""The account of an index reads as written in `account.txt`, from objects that a cluster held."""

from pathlib import Path

from visualindex_operator.kubectl.account import account
from visualindex_operator.kubectl.overview import overview

from .recorded import NOW, recorded, text

GOLDEN = Path(__file__).parent / "account.txt"
BUDGET = {
    "metadata": {"name": "fashion-workers"},
    "status": {"currentHealthy": 2, "expectedPods": 2, "disruptionsAllowed": 1},
}
JOBS = [
    {
        "metadata": {"name": "fashion-migrate-0a1b2c3d", "creationTimestamp": "2026-11-24T10:58:00Z"},
        "status": {"conditions": [{"type": "Complete", "status": "True"}]},
    },
    {
        "metadata": {"name": "fashion-erase-4e5f6a7b", "creationTimestamp": "2026-11-24T11:04:20Z"},
        "status": {
            "conditions": [
                {
                    "type": "Failed",
                    "status": "True",
                    "reason": "BackoffLimitExceeded",
                    "message": "tried 3 times",
                }
            ]
        },
    },
]


def test_an_account_goes_from_readiness_to_what_explains_it() -> None:
    found = recorded(
        jobs=JOBS,
        network_policies=[{"metadata": {"name": "fashion"}}],
        disruption_budgets=[BUDGET],
        unreadable=["eve may not do this: ask for a Role that allows `list jobs.batch` in namespace plugin"],
    )
    assert text(*account(found, NOW)) == GOLDEN.read_text()


def test_an_index_that_the_operator_never_saw_has_a_short_account() -> None:
    index = recorded().index
    del index["status"]
    shown = text(*account(recorded(index=index, ray_service=None, pods=[], events=[]), NOW))
    assert shown.splitlines()[0] == "fashion (namespace plugin) is not ready"
    assert "waits for the operator: it has not looked at this resource yet" in shown


def test_the_overview_has_a_line_for_each_index() -> None:
    header, line = text(overview([recorded().index], NOW, with_namespace=False)).splitlines()
    assert header.split() == [
        "name",
        "ready",
        "reason",
        "images",
        "generation",
        "recall",
        "cluster",
        "change",
        "age",
    ]
    assert line.split() == [
        "fashion",
        "False",
        "NotAnswering",
        "1,234",
        "g-12",
        "0.987",
        "fashion",
        "NewCluster",
        "Waiting",
        "6m",
    ]


def test_a_rebuild_is_told_with_its_progress_and_the_one_before() -> None:
    index = recorded().index
    index["status"]["conditions"].append(
        {
            "type": "Reindexing",
            "status": "True",
            "reason": "ReindexRuns",
            "message": "encoding, round 1: chunks 2/40",
        }
    )
    index["status"]["reindex"] = {
        "job": "7e2f",
        "state": "running",
        "startedAt": "2026-11-24T11:00:00Z",
        "progress": "encoding, round 1: chunks 2/40, images 512/10,000",
        "run": "fashion-reindex-7e2f-1",
        "last": {"job": "1a2b", "state": "failed", "endedAt": "2026-11-24T10:00:00Z", "outcome": "no room"},
    }
    shown = text(*account(recorded(index=index), NOW))
    assert "  …  Reindexing     ReindexRuns" in shown
    assert (
        "  job 7e2f in fashion-reindex-7e2f-1, begun 5m ago: encoding, round 1: chunks 2/40, images 512/10,000\n"
        "  last: job 1a2b failed 65m ago: no room\n"
    ) in shown
