"""The quality gate: what a generation must be able to do before it is activated, and which searches got worse by it."""

from visualindex.gate.judging import EncodeCopies, compare, judge

__all__ = ["EncodeCopies", "compare", "judge"]
