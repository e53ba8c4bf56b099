-- Keys that a Secret declares, beside those made by hand. The release before knows neither and honours both.
-- min_reader: 1

ALTER TABLE api_keys ADD COLUMN managed_by text;
COMMENT ON COLUMN api_keys.managed_by IS 'the index whose directory of keys declares this one; null: made by hand';
