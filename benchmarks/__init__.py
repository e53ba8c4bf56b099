"""Measurements of VisualIndex; each module says how it is run."""
