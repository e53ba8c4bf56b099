"""Reordering the first hits of a search by local features, which see what one vector for a whole picture cannot.

`patches` makes and packs the features, `maxsim` compares them, `fusion` weighs the comparison against the first-stage
score, `verdict` says whether that helped, `geometry` verifies copies, `cross_scorer` runs a user's own model, `packed`
keeps features beside a segment.
"""
