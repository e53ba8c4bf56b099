-- Dominant colours of each image, found when it is stored. Images of the release before have none, and it passes over them:
-- one that it replaces keeps the colours of the picture before until it is written again.
-- min_reader: 1

ALTER TABLE images ADD COLUMN colours bytea CHECK (octet_length(colours) <= 20 AND octet_length(colours) % 4 = 0);
COMMENT ON COLUMN images.colours IS 'red, green, blue and share (1 to 255) of at most five; null: not looked for';
