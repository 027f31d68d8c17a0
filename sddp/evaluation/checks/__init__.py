"""How much of a decision is chance."""

from sddp.evaluation.checks.stability import stability

__all__ = ["stability"]
