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
    value: Callable[[float], float],
    start: float,
    what: str,
    steps: int = STEPS,
    first: float = FACTOR,
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
        How often the bracket may grow by the largest factor.
    first : float
        Factor of its first step, above 1: near 1 where the guess is good. It is squared from step
        to step up to the largest.

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

    step, largest, here = math.log(first), math.log(FACTOR), math.log(start)
    if at(here) == 0.0:
        return Crossing(math.exp(here), math.exp(here))
    rising = at(here) > 0.0
    while steps > 0:
        there = here + step if rising else here - step
        if (at(there) > 0.0) != rising:
            low, high = (here, there) if rising else (there, here)
            if known[math.exp(high)] < 0.0:
                brentq(at, low, high, xtol=1e-15, rtol=1e-15, maxiter=200)
            if zero := [x for x, v in known.items() if v == 0.0]:
                return Crossing(zero[0], zero[0])
            above = max(x for x, v in known.items() if v > 0.0)
            return Crossing(above, min(x for x, v in known.items() if v <= 0.0))
        here, steps = there, steps - (step == largest)
        step = min(2.0 * step, largest)
    raise SolverError(
        f"no {what} between {math.exp(min(here, math.log(start))):g} and "
        f"{math.exp(max(here, math.log(start))):g} is the one looked for; look for numbers of "
        "very different size"
    )
