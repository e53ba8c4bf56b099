"""Building a generation: the catalog's rows of one moment, written as segments, tuned, published and proposed."""

from visualindex.building.generation import Built, build_generation
from visualindex.building.patches import Kept, StoredPatches, features_of, fetch_patches

__all__ = ["Built", "Kept", "StoredPatches", "build_generation", "features_of", "fetch_patches"]
