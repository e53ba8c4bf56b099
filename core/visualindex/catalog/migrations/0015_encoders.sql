-- The encoders that an index is served with: one, and while it moves from one to another, both.
-- min_reader: 1

CREATE TABLE index_encoders (
    index_name text NOT NULL,
    fingerprint text NOT NULL,
    dimension int NOT NULL CHECK (dimension > 0),
    settings jsonb NOT NULL,
    state text NOT NULL,
    complete boolean NOT NULL DEFAULT false,
    problem text,
    entered_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (index_name, fingerprint)
);
COMMENT ON COLUMN index_encoders.settings IS 'what loads it again: the sections of the spec that a gateway named it by';
COMMENT ON COLUMN index_encoders.state IS
    'joining: gateways load it; required: every gateway has it, and every write brings its vector; leaving: nothing needs '
    'it any more, its vectors go';
COMMENT ON COLUMN index_encoders.complete IS
    'every image has its vector, those in quarantine apart; once true, the writes keep it so';

-- Gateways that live, the encoder that the spec of each names and those that it holds: a switch waits for all of them.
CREATE TABLE gateways (
    index_name text NOT NULL,
    gateway text NOT NULL,
    names text NOT NULL,
    holds text[] NOT NULL,
    lease_until timestamptz NOT NULL,
    PRIMARY KEY (index_name, gateway)
);

-- Gateways and shards greet each other with the first encoder of an index, whatever it is searched with by now: processes
-- that were started before and after a switch understand each other.
ALTER TABLE indexes ADD COLUMN first_fingerprint text;
COMMENT ON COLUMN indexes.first_fingerprint IS 'null: the same as fingerprint, which says what is searched with now';
