"""Prometheus metrics through Ray, exported by each node's agent."""

import datetime as dt
from collections import Counter as Counts
from collections.abc import Mapping
from typing import Any

from ray.util.metrics import Counter, Gauge, Histogram

from visualindex.checking import FindingKind

_LATENCY_MS = [1, 2.5, 5, 10, 15, 20, 25, 30, 40, 50, 75, 100, 150, 200, 300, 500, 1000, 2000, 5000]


class Metrics:
    """The gateway's metrics."""

    def __init__(self) -> None:
        self.requests = Counter(
            "visualindex_requests", "HTTP requests by route and status.", tag_keys=("route", "status")
        )
        self.latency = Histogram(
            "visualindex_request_ms", "Request latency in milliseconds.", _LATENCY_MS, tag_keys=("route",)
        )
        self.step = Histogram(
            "visualindex_search_step_ms", "Milliseconds by step of a search.", _LATENCY_MS, tag_keys=("step",)
        )
        self.incomplete = Counter(
            "visualindex_searches_incomplete", "Searches a shard did not answer.", tag_keys=("index",)
        )
        self.images_written = Counter(
            "visualindex_images_written", "Images acknowledged.", tag_keys=("index",)
        )
        self.refused = Gauge(
            "visualindex_generation_refused",
            "1 while the newest generation is one that the quality gate refused, else 0.",
            tag_keys=("index",),
        )
        self.search_log_dropped = Counter(
            "visualindex_search_log_dropped", "Search log rows dropped because the log could not keep up."
        )
        self._shadowed = Counter(
            "visualindex_shadow_searches",
            "Sampled searches by what became of them while a candidate was asked as well: compared, unanswered (by the "
            "candidate, in time), or passed over.",
            tag_keys=("index", "outcome"),
        )
        self.shadow_overlap = Gauge(
            "visualindex_shadow_overlap",
            "Share of the active generation's hits that the candidate has, too, in the latest searches; -1 without.",
            tag_keys=("index",),
        )
        self._check_faults = Gauge(
            "visualindex_check_faults",
            "Faults of an index by kind that the last check found and that are left.",
            tag_keys=("index", "kind"),
        )
        self._check_age = Gauge(
            "visualindex_check_age_s", "Seconds since the last check of an index ended.", tag_keys=("index",)
        )

    def shadowed(self, index: str, outcome: str) -> None:
        """Count a sampled search."""
        self._shadowed.inc(tags={"index": index, "outcome": outcome})

    def check(self, index: str, report: Mapping[str, Any], checked_at: dt.datetime) -> None:
        """Tell of the last check of an index."""
        left = Counts[str]()
        for one in report["findings"]:
            left[one["kind"]] += one["count"] - one["mended"]
        for kind in FindingKind:
            self._check_faults.set(left[kind.value], {"index": index, "kind": kind.value})
        age = dt.datetime.now(dt.UTC) - checked_at
        self._check_age.set(age.total_seconds(), {"index": index})


class ShardMetrics:
    """A shard replica's metrics."""

    def __init__(self, index: str, shard: int, replica: str) -> None:
        tags = {"index": index, "shard": str(shard), "replica": replica}
        keys = tuple(tags)
        self.rows = Gauge("visualindex_shard_rows", "Live rows.", tag_keys=keys)
        self.memory = Gauge("visualindex_shard_bytes", "Bytes of vectors and attributes.", tag_keys=keys)
        self.full = Gauge(
            "visualindex_shard_full",
            "1 when images are missing because they do not fit into index.memoryPerShard, else 0.",
            tag_keys=keys,
        )
        self.lag = Gauge(
            "visualindex_shard_lag_ms",
            "Age in milliseconds of the shard's view of the change log.",
            tag_keys=keys,
        )
        self.freshness = Histogram(
            "visualindex_shard_freshness_ms",
            "Milliseconds from a write's log entry to its visibility in the shard.",
            [10, 25, 50, 75, 100, 150, 200, 250, 350, 500, 750, 1000, 2000, 5000],
            tag_keys=keys,
        )
        self.live_recall = Gauge(
            "visualindex_shard_live_recall",
            "Share of the true hits that sampled searches of the active generation found; -1 without samples.",
            tag_keys=keys,
        )
        for metric in (self.rows, self.memory, self.full, self.lag, self.freshness, self.live_recall):
            metric.set_default_tags(tags)
