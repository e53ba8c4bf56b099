"""The catalog: everything that lives in Postgres - images, vectors, the change log, keys and logs."""

from visualindex.catalog.catalog import Catalog
from visualindex.catalog.changes import ChangeFollower, Changes, LogTrimmed
from visualindex.catalog.connections import within
from visualindex.catalog.embedded import EmbeddedPostgres
from visualindex.catalog.idempotency import AlreadyAnswered, Idempotency
from visualindex.catalog.images import UNSET, ImageRecord, ImageWrite, Page, Written, merge_patch
from visualindex.catalog.indexes import IndexRecord
from visualindex.catalog.keys import KeyRecord
from visualindex.catalog.migrate import check_revision, migrate
from visualindex.catalog.positions import Position, Token
from visualindex.catalog.replicas import HoldingBackend, HoldingReplica, LogStatus, ReplicaPosition
from visualindex.catalog.rows import Rows
from visualindex.catalog.search_logs import Feedback, SearchLog

__all__ = [
    "UNSET",
    "AlreadyAnswered",
    "Catalog",
    "ChangeFollower",
    "Changes",
    "EmbeddedPostgres",
    "Feedback",
    "HoldingBackend",
    "HoldingReplica",
    "Idempotency",
    "ImageRecord",
    "ImageWrite",
    "IndexRecord",
    "KeyRecord",
    "LogStatus",
    "LogTrimmed",
    "Page",
    "Position",
    "ReplicaPosition",
    "Rows",
    "SearchLog",
    "Token",
    "Written",
    "check_revision",
    "merge_patch",
    "migrate",
    "within",
]
