"""The `reason` of an Event (those of conditions: `visualindex.planning.conditions`); docs/operations.md explains each."""

from enum import StrEnum


class EventReason(StrEnum):
    """What happened, in one word that programs may rely on."""

    PLANNED = "Planned"
    APPLIED = "Applied"
    REPAIRED = "Repaired"
    READY = "Ready"
    NOT_READY = "NotReady"
    DEPENDENCY_FAILED = "DependencyFailed"
    MIGRATED = "Migrated"
    MIGRATION_FAILED = "MigrationFailed"
    SECRET_ROTATED = "SecretRotated"  # noqa: S105 - a word, not a secret
    UPGRADE_BLOCKED = "UpgradeBlocked"
    REINDEX_REQUIRED = "ReindexRequired"
    PAUSED = "Paused"
    RESUMED = "Resumed"
    SUSPENDED = "Suspended"
    DATA_DELETED = "DataDeleted"
    DATA_LEFT_BEHIND = "DataLeftBehind"
    RECONCILE_FAILED = "ReconcileFailed"
    INVALID_SPEC = "InvalidSpec"
    ACTIVATED = "Activated"
    ROLLED_BACK = "RolledBack"
    ACTIVATION_FAILED = "ActivationFailed"
    GENERATION_REFUSED = "GenerationRefused"
    RECALL_MISSED = "RecallMissed"
    INCONSISTENT = "Inconsistent"
    REINDEX_STARTED = "ReindexStarted"
    REINDEX_FINISHED = "ReindexFinished"
    REINDEX_FAILED = "ReindexFailed"
    REINDEX_CANCELLED = "ReindexCancelled"
    REINDEX_REPEATED = "ReindexRepeated"
    REINDEX_REFUSED = "ReindexRefused"
