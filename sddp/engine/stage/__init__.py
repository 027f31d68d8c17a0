"""One stage: declared in Pyomo, read once, kept as numbers."""
