"""The pure planner: from specs and observations to what may happen now."""
