"""Array aliases and the one way to make an array read-only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sddp.errors import ModelError

# Probabilities computed in floating point miss 1 by rounding only.
PROBABILITY_TOLERANCE = 1e-9

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def read_only(values: ArrayLike) -> Floats:
    """Copy `values` to a float array that cannot be written to.

    >>> read_only([1, 2]).flags.writeable
    False
    """
    copy: Floats = np.array(values, dtype=float)
    copy.flags.writeable = False
    return copy


def as_vector(values: Any, length: int, name: str) -> Floats:
    """Broadcast a scalar or a vector of `length` numbers to a read-only vector.

    Raises
    ------
    ValueError
        `values` is neither a number nor `length` numbers, or holds one that is not finite.
    """
    array = np.asarray(values, dtype=float)
    if array.ndim > 1 or (array.ndim == 1 and array.shape != (length,)):
        raise ValueError(f"{name} has shape {array.shape}; give one number or {length} of them")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} = {array}: must hold finite numbers")
    return read_only(np.broadcast_to(array, (length,)))


def checked_probabilities(values: ArrayLike | None, length: int, where: str) -> Floats:
    """Probabilities of `length` outcomes, equal ones for None.

    Raises
    ------
    ModelError
        Wrong number, negative or not summing to 1; `where` names the place.
    """
    if values is None:
        return read_only(np.full(length, 1.0 / length))
    try:
        p = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{where}: probabilities are not numbers: {error}") from error
    if p.shape != (length,):
        raise ModelError(f"{where}: probabilities has shape {p.shape}; it needs ({length},)")
    if not np.isfinite(p).all() or p.min() < 0.0 or abs(p.sum() - 1.0) > PROBABILITY_TOLERANCE:
        raise ModelError(
            f"{where}: probabilities sum to {float(p.sum())!r}, the least is {float(p.min())!r}; "
            "they must be non-negative and sum to 1"
        )
    return read_only(p)
