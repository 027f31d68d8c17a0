"""How far a policy can be from the optimum: inner bounds, exact evaluation, certificates."""
