"""Background jobs: what is built and kept in order beside the serving of searches."""
