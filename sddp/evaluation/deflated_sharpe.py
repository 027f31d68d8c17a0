"""Deflated Sharpe ratio: a Sharpe ratio given how many variants were tried.

Whoever tries many variants and shows the best one shows luck too. Bailey and Lopez de Prado, "The
deflated Sharpe ratio: correcting for selection bias, backtest overfitting and non-normality",
Journal of Portfolio Management 40 (2014): the probability that the true ratio exceeds what the
best of so many trials without any merit would be expected to show.

Ratios in here are per period, not annualized; skewness is ``m3 / m2^1.5`` and kurtosis
``m4 / m2^2`` with central moments ``m`` that divide by the number of periods (3 for a normal law).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import kurtosis, norm, skew

from sddp.arrays import Floats
from sddp.errors import DataError
from sddp.evaluation.inference import MINIMUM_PERIODS, Sample
from sddp.evaluation.metrics import NO_SPREAD


def expected_maximum_sharpe(n_trials: int, variance: float) -> float:
    """Sharpe ratio that the best of independent trials without merit is expected to show.

    ``sqrt(V) ((1 - g) Z(1 - 1/N) + g Z(1 - 1/(N e)))`` with g the Euler-Mascheroni constant and Z
    the normal quantile; 0 for one trial.

    Parameters
    ----------
    n_trials : int
        N, at least 1.
    variance : float
        V, of the trials' ratios.
    """
    if n_trials == 1:
        return 0.0
    g, n = np.euler_gamma, float(n_trials)
    quantile = (1.0 - g) * norm.ppf(1.0 - 1.0 / n) + g * norm.ppf(1.0 - 1.0 / (n * math.e))
    return math.sqrt(variance) * float(quantile)


def probabilistic_sharpe(
    sharpe: float, threshold: float, n_periods: int, *, skewness: float, kurtosis: float
) -> float:
    """Probability that the true Sharpe ratio exceeds a threshold, given the one seen.

    ``Phi((S - S0) sqrt(n - 1) / sqrt(1 - skewness S + (kurtosis - 1)/4 S^2))``. Returns are taken
    as independent.

    Parameters
    ----------
    sharpe, threshold : float
        S and S0, per period.
    n_periods : int
        n.
    skewness, kurtosis : float
        Of the returns; 0 and 3 for a normal law.
    """
    variance = 1.0 - skewness * sharpe + (kurtosis - 1.0) / 4.0 * sharpe**2
    return float(norm.cdf((sharpe - threshold) * math.sqrt((n_periods - 1) / variance)))


def deflated_sharpe(
    sample: Sample, *, trial_sharpes: Sequence[float] | Floats, n_trials: int | None = None
) -> pd.DataFrame:
    """Deflated Sharpe ratio of each strategy.

    Parameters
    ----------
    sample : Sample
    trial_sharpes : sequence of float
        Sharpe ratios per year, as in `sddp.evaluation.summary`, of every variant that was tried,
        those not shown included. Their variance is taken with ddof 1; NaN (a variant that held
        cash only) is left out of it.
    n_trials : int, optional
        Number of variants tried, where the ratios of some are lost. Default: as many as there are
        ratios, NaN among them. Trials are taken as independent: for variants that resemble each
        other the deflation is severe.

    Returns
    -------
    DataFrame, shape (n_strategies, 8)
        ``sharpe`` and ``expected_maximum`` (what luck alone would show; both per year),
        ``probabilistic`` (probability that the true ratio exceeds 0), ``deflated`` (that it
        exceeds the expected maximum), ``skewness``, ``kurtosis``, ``n_periods``, ``n_trials``. NaN
        where excess returns do not vary, or for fewer than 30 periods.

    Raises
    ------
    DataError
        Fewer than two ratios are finite, or `n_trials` is smaller than their number.
    """
    ratios = np.asarray(trial_sharpes, dtype=float).ravel()
    n_trials = len(ratios) if n_trials is None else n_trials
    known = ratios[np.isfinite(ratios)]
    if len(known) < 2 or n_trials < len(ratios):
        raise DataError(
            f"trial_sharpes holds {len(known)} finite ratios of {len(ratios)}, n_trials = "
            f"{n_trials}; give the ratios of all variants tried, at least two"
        )
    per_period = known / math.sqrt(sample.periods_per_year)
    threshold = expected_maximum_sharpe(n_trials, float(per_period.var(ddof=1)))
    rows = {
        name: _deflated(excess, threshold, sample.periods_per_year)
        for name, excess in zip(sample.returns.columns, sample.excess.T, strict=True)
    }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("strategy")
    return table.assign(n_periods=len(sample.returns), n_trials=n_trials)


def _deflated(excess: Floats, threshold: float, periods_per_year: float) -> dict[str, float]:
    root = math.sqrt(periods_per_year)
    n_periods = len(excess)
    deviation = float(excess.std(ddof=1)) if n_periods >= MINIMUM_PERIODS else 0.0
    sharpe, third, fourth = math.nan, math.nan, math.nan
    if deviation > NO_SPREAD:
        sharpe, third = float(excess.mean()) / deviation, float(skew(excess))
        fourth = float(kurtosis(excess, fisher=False))
    moments = {"skewness": third, "kurtosis": fourth}
    return {
        "sharpe": sharpe * root,
        "expected_maximum": threshold * root,
        "probabilistic": probabilistic_sharpe(sharpe, 0.0, n_periods, **moments),
        "deflated": probabilistic_sharpe(sharpe, threshold, n_periods, **moments),
        **moments,
    }
