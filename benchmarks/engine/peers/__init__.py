"""One module for each engine of the table; each says how the engine was set up and under which names it counts."""
