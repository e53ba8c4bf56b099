-- Rebuilding an index from its originals: what a job planned, which parts of it are in the catalog, and which images
-- cannot be had. The release before knows none of it and claims no such job's chunks.
-- min_reader: 1

ALTER TABLE jobs ADD COLUMN ledger jsonb;
COMMENT ON COLUMN jobs.ledger IS 'which plans in the object store are in force, and what a resumed job must keep';

-- A row means that the vectors of that chunk are in the catalog: written in the same transaction, so counted once.
CREATE TABLE job_chunks (
    job_id uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    plan text NOT NULL,
    chunk int NOT NULL,
    account jsonb NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, plan, chunk)
);

CREATE TABLE quarantine (
    index_name text NOT NULL,
    image_id uuid NOT NULL,
    content_digest bytea NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    job_id uuid NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (index_name, image_id),
    FOREIGN KEY (index_name, image_id) REFERENCES images ON DELETE CASCADE
);
COMMENT ON COLUMN quarantine.content_digest IS 'of the content that could not be had: other content is tried again';
