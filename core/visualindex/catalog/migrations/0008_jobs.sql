-- What is done for an index in the background: one job of a kind at a time, held by a lease and a fence.
-- min_reader: 1

CREATE TABLE jobs (
    job_id uuid PRIMARY KEY,
    index_name text NOT NULL,
    kind text NOT NULL,
    state text NOT NULL DEFAULT 'queued',
    parameters jsonb NOT NULL DEFAULT '{}',
    phase text NOT NULL DEFAULT '',
    done bigint NOT NULL DEFAULT 0,
    total bigint NOT NULL DEFAULT 0,
    result jsonb,
    problem text,
    attempts int NOT NULL DEFAULT 0,
    fence bigint NOT NULL DEFAULT 0,
    lease_until timestamptz,
    requested_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    ended_at timestamptz
);
COMMENT ON COLUMN jobs.state IS 'queued, running, done, failed or cancelled';
COMMENT ON COLUMN jobs.fence IS 'grows with every claim: who holds an older one must not commit anything';
CREATE UNIQUE INDEX jobs_open ON jobs (index_name, kind) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_by_time ON jobs (index_name, requested_at);
