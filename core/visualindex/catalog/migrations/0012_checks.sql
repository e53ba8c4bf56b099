-- What a check asks of replicas and what came of the last one. The release before asks and answers nothing: its replicas are
-- reported as not having answered.
-- min_reader: 1

CREATE TABLE replica_questions (
    question_id uuid PRIMARY KEY,
    job_id uuid NOT NULL,
    index_name text NOT NULL,
    replica text NOT NULL,
    generation text NOT NULL,
    kind text NOT NULL,
    parameters jsonb NOT NULL DEFAULT '{}',
    answer jsonb,
    asked_at timestamptz NOT NULL DEFAULT now(),
    begun_at timestamptz,
    answered_at timestamptz
);
COMMENT ON COLUMN replica_questions.kind IS 'digests: of each bucket; rows: compare buckets with the catalog, row by row';
CREATE INDEX replica_questions_open ON replica_questions (index_name, replica) WHERE answered_at IS NULL;
CREATE INDEX replica_questions_by_job ON replica_questions (job_id);

CREATE TABLE checks (
    index_name text PRIMARY KEY,
    job_id uuid NOT NULL,
    report jsonb NOT NULL,
    checked_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE missing_originals (
    index_name text NOT NULL,
    content_digest bytea NOT NULL,
    found_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (index_name, content_digest)
);
COMMENT ON TABLE missing_originals IS 'originals that images refer to and that nobody has; a later check takes back what is there again';
