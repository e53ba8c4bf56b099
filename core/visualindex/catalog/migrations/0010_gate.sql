-- What the quality gate measured of a generation before it could be activated.
-- min_reader: 1

ALTER TABLE generations ADD COLUMN gate jsonb;
COMMENT ON COLUMN generations.gate IS 'the report; null: it was not judged. One whose verdict is refused is activated by force only';
