"""The words the operator uses in conditions and events. Programs rely on them; docs/operations.md explains each."""

from enum import StrEnum


class Reason(StrEnum):
    """`reason` of a condition."""

    # Ready
    SEARCH_ANSWERS = "SearchAnswers"
    NOT_ANSWERING = "NotAnswering"
    DEPENDENCY_MISSING = "DependencyMissing"
    SUSPENDED = "Suspended"
    DELETING = "Deleting"
    INVALID_SPEC = "InvalidSpec"
    # ServingReady
    RUNNING = "Running"
    STARTING = "Starting"
    DEPLOY_FAILED = "DeployFailed"
    CLUSTER_UNREACHABLE = "ClusterUnreachable"
    CLUSTER_REFUSED = "ClusterRefused"
    KUBERAY_MISSING = "KubeRayMissing"
    NAME_TAKEN = "NameTaken"
    # StorageReady, MetadataReady
    CONNECTED = "Connected"
    NOT_CONFIGURED = "NotConfigured"
    SECRET_MISSING = "SecretMissing"  # noqa: S105 - a word, not a secret
    SECRET_KEY_MISSING = "SecretKeyMissing"  # noqa: S105
    UNREACHABLE = "Unreachable"
    FOLDER_DECLARED = "FolderDeclared"
    MIGRATING = "Migrating"
    MIGRATION_FAILED = "MigrationFailed"
    # Degraded
    AS_WANTED = "AsWanted"
    PARTS_MISSING = "PartsMissing"
    NO_FAULT_TOLERANCE = "NoFaultTolerance"
    SETTINGS_DIFFER = "SettingsDiffer"
    # Paused
    ANNOTATED = "Annotated"
    NOT_PAUSED = "NotPaused"
    # UpgradeBlocked
    NOT_BLOCKED = "NotBlocked"
    GPU_BUDGET = "GpuBudget"
    APPROVAL_NEEDED = "ApprovalNeeded"
    # ReindexRequired
    ENCODER_CHANGED = "EncoderChanged"
    SAME_ENCODER = "SameEncoder"


class EventReason(StrEnum):
    """`reason` of an Event."""

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
