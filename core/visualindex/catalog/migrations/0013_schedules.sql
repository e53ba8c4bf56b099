-- Up to when the times of each schedule were decided on, and what was decided. The release before has no schedules.
-- min_reader: 1

CREATE TABLE schedules (
    index_name text NOT NULL,
    name text NOT NULL,
    expression text NOT NULL,
    considered_through timestamptz NOT NULL,
    PRIMARY KEY (index_name, name)
);
COMMENT ON COLUMN schedules.expression IS 'cron and time zone: when they change, the times begin anew';

CREATE TABLE schedule_runs (
    index_name text NOT NULL,
    name text NOT NULL,
    scheduled_at timestamptz NOT NULL,
    decided_at timestamptz NOT NULL,
    outcome text NOT NULL,
    missed int NOT NULL DEFAULT 0,
    job_id uuid,
    PRIMARY KEY (index_name, name, scheduled_at)
);
COMMENT ON COLUMN schedule_runs.outcome IS
    'requested; replaced: the run before was cancelled for it; skipped: the run before was under way; late';
