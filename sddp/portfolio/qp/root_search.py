"""The positive number at which a falling function crosses zero, as its neighbors on both sides."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from sddp.errors import SolverError

# The bracket grows by this factor, so many times in either direction.
FACTOR, STEPS = 8.0, 24


class Crossing(NamedTuple):
    """Neighboring arguments: at `low` the function is positive, at `high` it is not.

    They are equal to rounding unless the function jumps; both are the same where it is zero.
    """

    low: float
    high: float


def crossing(
    value: Callable[[float], float], start: float, what: str, steps: int = STEPS
) -> Crossing:
    """Bracket the root from a first guess, then find it (Brent, 1973).

    Parameters
    ----------
    value : function
        Of a positive number; falls from positive to negative.
    start : float
        Positive; of the root's order of size.
    what : str
        What messages call the argument.
    steps : int
        How often the bracket may grow.

    Raises
    ------
    SolverError
        The function does not cross zero in reach.
    """
    from scipy.optimize import brentq  # 0.3 s to import

    known: dict[float, float] = {}

    def at(logarithm: float) -> float:
        argument = math.exp(logarithm)
        # Warm solves may differ by rounding: a value near zero must not change its sign.
        if argument not in known:
            known[argument] = value(argument)
        return known[argument]

    step = math.log(FACTOR)
    here = math.log(start)
    rising = at(here) > 0.0
    for _ in range(steps):
        there = here + step if rising else here - step
        if (at(there) > 0.0) != rising:
            low, high = (here, there) if rising else (there, here)
            if known[math.exp(high)] < 0.0:
                brentq(at, low, high, xtol=1e-15, rtol=1e-15, maxiter=200)
            above = max(x for x, v in known.items() if v > 0.0)
            return Crossing(above, min(x for x, v in known.items() if v <= 0.0))
        here = there
    raise SolverError(
        f"no {what} between {math.exp(min(here, math.log(start))):g} and "
        f"{math.exp(max(here, math.log(start))):g} is the one looked for; look for numbers of "
        "very different size"
    )
