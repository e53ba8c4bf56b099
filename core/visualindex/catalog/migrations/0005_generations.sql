-- Which generation of an index is served, and which ones each replica has loaded.
-- min_reader: 1

ALTER TABLE generations
    ADD COLUMN fingerprint text,
    ADD COLUMN problem text,
    ADD COLUMN ended_at timestamptz;
COMMENT ON COLUMN generations.state IS
    'ready: can be activated; preparing: shards load it, then it is activated; active; kept: was active, for rollback; '
    'failed: shards could not load it; retired: is no longer loaded, its objects go; gone: they went';
CREATE UNIQUE INDEX generations_active ON generations (index_name) WHERE state = 'active';

-- A replica of the release before has none of these: it holds the rows of its buckets and no generation.
ALTER TABLE replicas
    ADD COLUMN shards int,
    ADD COLUMN generations text[] NOT NULL DEFAULT '{}',
    ADD COLUMN fresh_rows bigint NOT NULL DEFAULT 0,
    ADD COLUMN recall double precision,
    ADD COLUMN recall_samples int NOT NULL DEFAULT 0,
    ADD COLUMN problem text;
