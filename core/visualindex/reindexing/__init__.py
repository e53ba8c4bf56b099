"""Making what the images of an index lack from their originals: plans, chunks and their ledger, without Ray."""

from visualindex.reindexing.chunks import Account, Done, Todo
from visualindex.reindexing.encoding import BatchEncoder, hardware_of, measured_batch
from visualindex.reindexing.finishing import finish
from visualindex.reindexing.ledger import Ledger, Plan, Recipe
from visualindex.reindexing.patience import PATIENCE_S, patiently
from visualindex.reindexing.planning import FindPatches, make_plan
from visualindex.reindexing.preparing import Prepared, Preparer

__all__ = [
    "PATIENCE_S",
    "Account",
    "BatchEncoder",
    "Done",
    "FindPatches",
    "Ledger",
    "Plan",
    "Prepared",
    "Preparer",
    "Recipe",
    "Todo",
    "finish",
    "hardware_of",
    "make_plan",
    "measured_batch",
    "patiently",
]
