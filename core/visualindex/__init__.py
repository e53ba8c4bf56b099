"""VisualIndex: what every part shares (spec, catalog, object store, encoders, index segments, CLI)."""

__version__ = "0.1.0"
