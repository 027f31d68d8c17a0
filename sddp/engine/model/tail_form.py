"""The arrays of a limit on a tail mean: a row generator that compiled training stands in for."""

from __future__ import annotations

from dataclasses import dataclass

from sddp.arrays import Floats


@dataclass(frozen=True, eq=False)
class TailForm:
    """Rows ``sum_o w_o outcomes[o].v_1 + fixed.v <= 0`` for the weights `w` of every tail.

    `v` are the variables of the row generator and `v_1` the first of them. The weights of a tail
    sum to 1 and are at most ``probabilities / mass``; a solution breaks the limit where the mean
    over its worst tail does, by more than the tolerance times ``size.v``.

    Attributes
    ----------
    outcomes : array, shape (n_outcomes, n_first)
    probabilities : array, shape (n_outcomes,)
    mass : float
        Probability of the tail.
    fixed, size : array, shape (n_variables,)
    """

    outcomes: Floats
    probabilities: Floats
    mass: float
    fixed: Floats
    size: Floats
