"""Shocks and histories of a process of returns and factors, as arrays with their timing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sddp.arrays import Floats, checked_probabilities, read_only
from sddp.errors import DataError, ModelError

Pairing = Literal["same date", "predicted"]


@dataclass(frozen=True, eq=False)
class Shocks:
    """Finitely many weighted shocks of one period, in the place of their joint normal law.

    Parameters
    ----------
    growth : array, shape (n_points, n_assets)
        ``exp(e_r)``: what the shock multiplies each asset's gross return with.
    factors : array, shape (n_points, n_factors)
        ``e_z``.
    probabilities : array, shape (n_points,), optional
        Equiprobable by default.
    has_tails : bool
        False where `growth` is a mean given ``e_z``: right for expectations that are linear in
        returns, wrong for every risk measure.

    Raises
    ------
    DataError
        Shapes disagree or a number is not finite.
    ModelError
        The probabilities are none.
    """

    growth: Floats
    factors: Floats
    probabilities: Floats | None = None
    has_tails: bool = True

    def __post_init__(self) -> None:
        growth, factors = read_only(self.growth), read_only(self.factors)
        if growth.ndim != 2 or factors.ndim != 2 or len(growth) != len(factors):
            raise DataError(
                f"growth has shape {growth.shape} and factors {factors.shape}; "
                "give (n_points, n_assets) and (n_points, n_factors)"
            )
        if not (np.isfinite(growth).all() and np.isfinite(factors).all()):
            raise DataError("growth or factors holds a number that is not finite")
        p = checked_probabilities(self.probabilities, len(growth), "shocks")
        object.__setattr__(self, "growth", growth)
        object.__setattr__(self, "factors", factors)
        object.__setattr__(self, "probabilities", p)


@dataclass(frozen=True, eq=False)
class ReturnPaths:
    """Independent histories of returns and factors.

    Attributes
    ----------
    log_returns : array, shape (n_paths, n_periods, n_assets)
        Entry t is earned over ``(t, t+1]``: predicted by ``factors[:, t]``, known at t+1.
    factors : array, shape (n_paths, n_periods + 1, n_factors)
        Entry t is known when date t decides.
    cash_return : float
        Simple return of cash per period.
    """

    log_returns: Floats
    factors: Floats
    cash_return: float

    @property
    def excess_returns(self) -> Floats:
        """Simple returns less the return of cash, shape (n_paths, n_periods, n_assets)."""
        excess: Floats = np.expm1(self.log_returns) - self.cash_return
        return excess

    def observations(self, pairing: Pairing) -> Floats:
        """Log returns and factor side by side, what a model of regimes is fitted on.

        Parameters
        ----------
        pairing : {"same date", "predicted"}
            The return known at a date with the factor known at that date, ``(rho_t, z_t)``, as
            in the authors' test data; a regime then describes the period that ends. Or the
            factor with the return it predicts, ``(rho_{t+1}, z_t)``; a regime then describes
            the period that begins.

        Returns
        -------
        array, shape (n_paths, n_periods, n_assets + n_factors)

        Raises
        ------
        ModelError
            `pairing` is another word.
        """
        if pairing not in ("same date", "predicted"):
            raise ModelError(f"pairing = {pairing!r}; give 'same date' or 'predicted'")
        factors = self.factors[:, 1:] if pairing == "same date" else self.factors[:, :-1]
        return np.concatenate([self.log_returns, factors], axis=2)
