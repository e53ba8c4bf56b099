"""Pictures on their way into an index, whoever brings them: what requests, jobs and events have in common, and batches."""
