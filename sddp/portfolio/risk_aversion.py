"""Risk aversion: one convention, and the ways to set it.

Throughout this package ``risk_aversion`` is the ``lambda`` of ``mu'w - (lambda / 2) w'Sw - cost``,
all per period and in fractions of wealth. Others in use, with ``m`` the number they call risk
aversion:

==================================  ===================  =========================================
objective                           costs beside it      ``risk_aversion`` here
==================================  ===================  =========================================
``max mu'w - (m / 2) w'Sw``         ``- cost``           ``m``
``max mu'w - m w'Sw``               ``- cost``           ``risk_aversion_of_variance(m) = 2 m``
``min w'Sw - m mu'w``               ``+ m cost``         ``risk_aversion_of_return(m) = 2 / m``
``min sqrt(w'Sw) - m mu'w``         ``+ m cost``         ``risk_aversion_of_volatility(m, s)``
                                                         ``= 1 / (m s)``
==================================  ===================  =========================================

In the last two ``m`` multiplies the *return*: a larger one is bolder. Where costs enter such an
objective once, not ``m`` times, they are ``cost / m`` here. The last is the same problem only at
its own solution, whose volatility ``s = sqrt(w'Sw)`` must be known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sddp.errors import ModelError

# No volatility index in points has ever closed this low; a decimal (0.3 for 30 %) always does.
LEAST_POINTS = 1.0


def risk_aversion_of_variance(multiplier: float) -> float:
    """``risk_aversion`` of ``max mu'w - multiplier w'Sw``.

    >>> risk_aversion_of_variance(2.5)
    5.0
    """
    return 2.0 * _checked("multiplier", multiplier, least=0.0)


def risk_aversion_of_return(multiplier: float) -> float:
    """``risk_aversion`` of ``min w'Sw - multiplier mu'w``.

    >>> risk_aversion_of_return(0.4)
    5.0
    """
    return 2.0 / _positive("multiplier", multiplier)


def risk_aversion_of_volatility(multiplier: float, volatility: float) -> float:
    """``risk_aversion`` of ``min sqrt(w'Sw) - multiplier mu'w``, whose solution has `volatility`.

    >>> risk_aversion_of_volatility(4.0, 0.05)
    5.0
    """
    return 1.0 / (_positive("multiplier", multiplier) * _positive("volatility", volatility))


@dataclass(frozen=True, kw_only=True)
class VolatilityDriven:
    """Risk aversion that rises with a volatility index: ``base (1 + sensitivity index)``.

    Parameters
    ----------
    base : float
        Risk aversion at an index of 0.
    sensitivity : float
        Relative rise per point of the index.

    Raises
    ------
    ModelError
        A number is negative or not finite.

    Examples
    --------
    >>> VolatilityDriven(base=2.0, sensitivity=0.05).at(30.0)
    5.0
    """

    base: float
    sensitivity: float

    def __post_init__(self) -> None:
        _checked("base", self.base, least=0.0)
        _checked("sensitivity", self.sensitivity, least=0.0)

    def at(self, volatility_index: float) -> float:
        """Risk aversion at an index in points: 30 is a volatility of 30 % a year.

        Raises
        ------
        ModelError
            The index is not finite, or below 1: a decimal was given for points.
        """
        if not (math.isfinite(volatility_index) and volatility_index >= LEAST_POINTS):
            raise ModelError(
                f"volatility_index = {volatility_index}; give points (30 for 30 % a year), not a "
                "decimal"
            )
        return self.base * (1.0 + self.sensitivity * volatility_index)


@dataclass(frozen=True, kw_only=True)
class CVaRMatched:
    """The least risk aversion at which the one-period CVaR of the solution is within a limit.

    Where the solution without risk aversion is within the limit, that is the answer: the limit
    does not bind. Otherwise the CVaR of the answer equals the limit.

    Parameters
    ----------
    limit : float
        Largest CVaR of the loss of one period, costs of trading included, as a fraction of the
        wealth before trading.
    confidence : float
        0.9 means the mean of the worst 10 %.

    Raises
    ------
    ModelError
        The limit is not finite, or the confidence not between 0 and 1.
    """

    limit: float
    confidence: float = 0.9

    def __post_init__(self) -> None:
        if not math.isfinite(self.limit):
            raise ModelError(f"limit = {self.limit}; give a fraction of wealth, 0.02 for 2 %")
        if not 0.0 < self.confidence < 1.0:
            raise ModelError(f"confidence = {self.confidence}; give a number between 0 and 1")


RiskAversion = float | VolatilityDriven | CVaRMatched


def check_risk_aversion(value: object) -> None:
    """Refuse what is neither a number of at least 0 nor an object of this module.

    Raises
    ------
    ModelError
    """
    if not isinstance(value, VolatilityDriven | CVaRMatched):
        _checked("risk_aversion", value, least=0.0)


def _checked(name: str, value: object, least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ModelError(f"{name} = {value!r}; give a finite number")
    if value < least:
        raise ModelError(f"{name} = {value}; give a number of at least {least:g}")
    return float(value)


def _positive(name: str, value: float) -> float:
    if _checked(name, value, least=0.0) == 0.0:
        raise ModelError(f"{name} = {value}; give a positive number")
    return float(value)
