"""`kubectl visualindex`: what a person asks of an index on a cluster, without knowing which objects it is made of.

One module per command. As in `visualindex.cli`, a command module imports at its top the standard library and typer
only, so that `--help` answers at once.
"""
