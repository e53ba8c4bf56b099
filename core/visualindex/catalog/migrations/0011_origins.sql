-- Which object of a bucket or folder an image came from: an object that did not change is not fetched again, and one that
-- is gone takes with it the image that came from it, and no other. Jobs can be paused.
-- min_reader: 1

CREATE TABLE origins (
    index_name text NOT NULL,
    place text NOT NULL,
    object_key text COLLATE "C" NOT NULL,
    image_id uuid NOT NULL,
    content_digest bytea NOT NULL,
    etag text NOT NULL,
    sequencer text NOT NULL DEFAULT '',
    noted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (index_name, place, object_key),
    FOREIGN KEY (index_name, image_id) REFERENCES images (index_name, image_id) ON DELETE CASCADE
);
COMMENT ON COLUMN origins.place IS 'the bucket (s3://endpoint/bucket) or folder (file:///path) that has the object';
COMMENT ON COLUMN origins.content_digest IS 'of the object when it was read: an image of other content came from elsewhere';
COMMENT ON COLUMN origins.sequencer IS 'of the last event about the object that was taken in';
CREATE INDEX origins_by_image ON origins (index_name, image_id);

COMMENT ON COLUMN jobs.state IS 'queued, running, paused, done, failed or cancelled';
