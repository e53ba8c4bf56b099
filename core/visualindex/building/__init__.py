"""Building a generation: the catalog's rows of one moment, written as segments, tuned, published and proposed."""

from visualindex.building.abandoned import find_abandoned, retire_abandoned
from visualindex.building.builders import Builders
from visualindex.building.generation import Built, build_generation
from visualindex.building.patches import Kept, StoredPatches, features_of, fetch_patches
from visualindex.building.shard import ShardBuilder, ShardBuilt, Task

__all__ = [
    "Builders",
    "Built",
    "Kept",
    "ShardBuilder",
    "ShardBuilt",
    "StoredPatches",
    "Task",
    "build_generation",
    "features_of",
    "fetch_patches",
    "find_abandoned",
    "retire_abandoned",
]
