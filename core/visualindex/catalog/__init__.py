"""The catalog: everything that lives in Postgres - images, vectors, the change log, keys and logs."""

from visualindex.catalog.catalog import Catalog
from visualindex.catalog.changes import ChangeFollower, Changes, LogTrimmed
from visualindex.catalog.checks import DIGESTS, ROWS, CheckRecord, Question, TrueRows
from visualindex.catalog.connections import within
from visualindex.catalog.directions import check_direction
from visualindex.catalog.embedded import EmbeddedPostgres, Listening
from visualindex.catalog.generations import GenerationRecord, Searchable
from visualindex.catalog.idempotency import AlreadyAnswered, Idempotency
from visualindex.catalog.images import (
    UNSET,
    ChangedMeanwhileError,
    ImageRecord,
    ImageWrite,
    Page,
    Written,
    merge_patch,
)
from visualindex.catalog.index_encoders import EncoderRecord, LacksVectorError
from visualindex.catalog.index_erasure import ErasedRows
from visualindex.catalog.indexes import IndexRecord
from visualindex.catalog.jobs import (
    APART,
    BUILD,
    CHECK,
    COMPARE,
    INGEST,
    LEASE_S,
    PLACE,
    REINDEX,
    RERANK_TRIAL,
    SHADOW,
    Fence,
    JobLine,
    JobRecord,
)
from visualindex.catalog.key_files import read_keys
from visualindex.catalog.keys import KeyRecord
from visualindex.catalog.loads import FEWER, everywhere, short_of_images, unloadable
from visualindex.catalog.managed_keys import DeclaredKey, KeyChanges
from visualindex.catalog.migrate import check_revision, has_schema, migrate
from visualindex.catalog.origin_rows import Origin
from visualindex.catalog.positions import Position, Token
from visualindex.catalog.reaching import reach
from visualindex.catalog.reindexing import (
    ChunkCommit,
    Encoded,
    Lacking,
    Quarantined,
    Refused,
)
from visualindex.catalog.replicas import (
    HoldingBackend,
    HoldingReplica,
    LogStatus,
    ReplicaAddress,
    ReplicaLoad,
    ReplicaPosition,
)
from visualindex.catalog.rows import Rows
from visualindex.catalog.schedules import ScheduleRun
from visualindex.catalog.search_logs import Feedback, SearchLog
from visualindex.catalog.shadows import Shadow, ShadowQuery
from visualindex.catalog.trial_server import TrialServer
from visualindex.catalog.twins import Twin

__all__ = [
    "APART",
    "BUILD",
    "CHECK",
    "COMPARE",
    "DIGESTS",
    "FEWER",
    "INGEST",
    "LEASE_S",
    "PLACE",
    "REINDEX",
    "RERANK_TRIAL",
    "ROWS",
    "SHADOW",
    "UNSET",
    "AlreadyAnswered",
    "Catalog",
    "ChangeFollower",
    "ChangedMeanwhileError",
    "Changes",
    "CheckRecord",
    "ChunkCommit",
    "DeclaredKey",
    "EmbeddedPostgres",
    "Encoded",
    "EncoderRecord",
    "ErasedRows",
    "Feedback",
    "Fence",
    "GenerationRecord",
    "HoldingBackend",
    "HoldingReplica",
    "Idempotency",
    "ImageRecord",
    "ImageWrite",
    "IndexRecord",
    "JobLine",
    "JobRecord",
    "KeyChanges",
    "KeyRecord",
    "Lacking",
    "LacksVectorError",
    "Listening",
    "LogStatus",
    "LogTrimmed",
    "Origin",
    "Page",
    "Position",
    "Quarantined",
    "Question",
    "Refused",
    "ReplicaAddress",
    "ReplicaLoad",
    "ReplicaPosition",
    "Rows",
    "ScheduleRun",
    "SearchLog",
    "Searchable",
    "Shadow",
    "ShadowQuery",
    "Token",
    "TrialServer",
    "TrueRows",
    "Twin",
    "Written",
    "check_direction",
    "check_revision",
    "everywhere",
    "has_schema",
    "merge_patch",
    "migrate",
    "reach",
    "read_keys",
    "short_of_images",
    "unloadable",
    "within",
]
