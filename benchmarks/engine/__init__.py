"""The index engine beside its peers: one table from one run, `make bench-engine`."""
