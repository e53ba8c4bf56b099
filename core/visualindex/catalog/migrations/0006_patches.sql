-- Local features of images that no generation holds yet, and what was measured of reranking with them. The release before
-- knows neither: it reranks nothing, and where it gives an image other content the digest tells that its patches are stale.
-- min_reader: 1

-- Bytes of no structure: compressing them costs and saves nothing.
CREATE TABLE image_patches (
    index_name text NOT NULL,
    image_id uuid NOT NULL,
    fingerprint text NOT NULL,
    patches bytea STORAGE EXTERNAL NOT NULL,
    content_digest bytea NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (index_name, image_id, fingerprint),
    FOREIGN KEY (index_name, image_id) REFERENCES images ON DELETE CASCADE
);

COMMENT ON COLUMN image_patches.fingerprint IS 'of the patches, not of the vectors: encoder without projection, and matrix';
COMMENT ON COLUMN image_patches.version IS 'the version of the image that these patches were written with';

ALTER TABLE indexes ADD COLUMN rerank jsonb;
COMMENT ON COLUMN indexes.rerank IS 'fitted weights and whether they were worth it; null: never measured';
