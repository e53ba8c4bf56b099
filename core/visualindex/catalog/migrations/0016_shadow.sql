-- A candidate that answers a share of the searches beside the active generation, for comparison alone. Replicas of the
-- release before do not load it for that, and the comparison ends without an answer.
-- min_reader: 1

CREATE TABLE shadows (
    index_name text PRIMARY KEY,
    generation text NOT NULL,
    against text NOT NULL,
    job_id uuid NOT NULL,
    share double precision NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    begun_at timestamptz,
    lease_until timestamptz NOT NULL,
    FOREIGN KEY (index_name, generation) REFERENCES generations ON DELETE CASCADE
);
COMMENT ON COLUMN shadows.begun_at IS 'since when every replica has it, so that gateways ask for it';

CREATE TABLE shadow_queries (
    index_name text NOT NULL REFERENCES shadows ON DELETE CASCADE,
    query_id uuid NOT NULL,
    image_id uuid,
    asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    overlap double precision,
    score_before double precision,
    score_after double precision,
    ms_before double precision NOT NULL,
    ms_after double precision,
    lost uuid[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (index_name, query_id)
);
COMMENT ON COLUMN shadow_queries.ms_after IS 'null: the candidate did not answer in time';

ALTER TABLE generations ADD COLUMN shadow jsonb;
COMMENT ON COLUMN generations.shadow IS 'how it answered beside the active one; null: it never did';
