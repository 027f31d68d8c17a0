"""One stage: compile, presolve, solve, separate lazy constraints, dual values."""
