-- Who may call, and what was searched and clicked.
-- min_reader: 1

CREATE TABLE api_keys (
    key_id uuid PRIMARY KEY,
    name text NOT NULL,
    secret_digest bytea NOT NULL UNIQUE,
    scopes text[] NOT NULL,
    indexes text[],
    filter jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);

CREATE TABLE user_search_logs (
    log_id uuid PRIMARY KEY,
    index_name text NOT NULL,
    query_id uuid NOT NULL,
    user_id text,
    image_id uuid,
    search_time timestamptz NOT NULL DEFAULT now(),
    matched_ids uuid[] NOT NULL,
    took_ms real NOT NULL,
    query_kind text NOT NULL,
    filter jsonb,
    complete boolean NOT NULL
);

CREATE INDEX user_search_logs_by_time ON user_search_logs (search_time);
CREATE INDEX user_search_logs_by_query ON user_search_logs (query_id);
CREATE INDEX user_search_logs_by_user ON user_search_logs (index_name, user_id, search_time);

CREATE TABLE feedback_events (
    event_id uuid PRIMARY KEY,
    index_name text NOT NULL,
    query_id uuid NOT NULL,
    image_id uuid NOT NULL,
    kind text NOT NULL,
    value real,
    user_id text,
    position int,
    occurred_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX feedback_events_by_time ON feedback_events (occurred_at);
CREATE INDEX feedback_events_by_query ON feedback_events (query_id);
