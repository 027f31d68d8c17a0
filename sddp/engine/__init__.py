"""Multistage stochastic linear programs by SDDP: states, stages and graphs; nothing of finance."""

# Before SciPy: in the other order Pyomo loads more of it (import of training: 1.3 against 1.0 s).
import pyomo.environ  # noqa: F401
