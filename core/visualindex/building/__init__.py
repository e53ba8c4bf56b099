"""Building a generation: the catalog's rows of one moment, written as segments, tuned, published and proposed."""

from visualindex.building.generation import Built, build_generation

__all__ = ["Built", "build_generation"]
