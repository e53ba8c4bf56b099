-- When people last asked for a generation to be served, so that one which they went back to stays until they say otherwise.
-- min_reader: 1

ALTER TABLE generations ADD COLUMN asked_at timestamptz;
COMMENT ON COLUMN generations.asked_at IS 'when people last asked for it to be served; null: they never did';
