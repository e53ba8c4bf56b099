"""Rebuilding an index from its originals, with a real catalog, store, decoders and encoder."""
