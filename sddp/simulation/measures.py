"""Risk figures of simulated outcomes, each with its standard error.

Losses are positive in risk figures, returns are as they are: the 5 % quantile of the return is
minus the 95 % VaR. Scenarios are equiprobable. The tail is that of `sddp.risk`: fractional, so
that CVaR is the Rockafellar-Uryasev one; VaR is the least loss in it.

Standard errors come from batches of consecutive scenarios, so that they hold for antithetic pairs
too: a figure is, to first order, the mean of its influence values over the scenarios, and the
spread of the batches' means says how well it is known. That of VaR comes from order statistics.
With Sobol points both are too large.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sddp.arrays import Floats
from sddp.errors import DataError, ModelError, NumericalWarning
from sddp.labels import label_index
from sddp.risk import tail_probabilities, weighted_cvar

# A spread of so many means is known to 7 %.
BATCHES = 100
FEWEST_IN_THE_TAIL = 20
# Tail weights below this are what rounding leaves of the next outcome.
ROUNDING = 1e-12
# Half the width of a 95 % interval in standard errors.
WIDTH = 1.96


def risk_figures(
    losses: ArrayLike,
    *,
    confidence: float | Sequence[float] = 0.95,
    larger_than: Sequence[float] = (),
) -> pd.DataFrame:
    """Mean, volatility, VaR, CVaR and probabilities of a loss.

    Parameters
    ----------
    losses : array, shape (n_scenarios,)
        Over the whole horizon, such as `SimulatedWealth.losses`.
    confidence : float or sequence of float
        Between 0 and 1; 0.95 looks at the worst 5 %.
    larger_than : sequence of float
        Losses whose probability of being exceeded is wanted.

    Returns
    -------
    DataFrame
        Rows: ``mean return``, ``volatility``, ``VaR 95 %``, ``CVaR 95 %``, ``return's 5 % quantile
        (minus VaR)``, ``probability of losing more than 20 %``. Columns: ``value``,
        ``standard_error``.

    Raises
    ------
    DataError
        There are fewer than 2 losses, or one is not finite.
    ModelError
        A confidence is not between 0 and 1.

    Warns
    -----
    NumericalWarning
        Fewer than 20 scenarios lie in a tail.
    """
    z = _losses(losses)
    deviations, spread = z - z.mean(), float(z.std(ddof=1))
    half_squares = deviations**2 / (2.0 * spread) if spread else np.zeros_like(z)
    rows: dict[str, tuple[float, float]] = {
        "mean return": (-float(z.mean()), batch_error(z)),
        "volatility": (spread, batch_error(half_squares)),
    }
    for level in _levels(confidence):
        check_tail(level, len(z))
        var, cvar, influence = tail_figures(z, level)
        error = order_statistic_error(z, level)
        rows[f"VaR {_percent(level)}"] = var, error
        rows[f"CVaR {_percent(level)}"] = cvar, batch_error(influence)
        rows[f"return's {_percent(1.0 - level)} quantile (minus VaR)"] = -var, error
    for limit in larger_than:
        exceeded = (z > limit).astype(float)
        name = f"probability of losing more than {_percent(limit)}"
        rows[name] = float(exceeded.mean()), batch_error(exceeded)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "standard_error"])


def tail_figures(losses: Floats, confidence: float) -> tuple[float, float, Floats]:
    """VaR, CVaR, and the influence value of each scenario, whose mean is the CVaR."""
    probabilities = np.full(len(losses), 1.0 / len(losses))
    tail = tail_probabilities(probabilities, losses, 1.0 - confidence)
    inside = np.flatnonzero(tail > ROUNDING)
    var = float(losses[inside].min())
    influence = var + np.maximum(losses - var, 0.0) / (1.0 - confidence)
    return var, float(tail[inside] @ losses[inside]), influence


def batch_error(values: Floats) -> float:
    """Standard error of a mean, from means of consecutive batches of an even number of values."""
    pairs = len(values) // 2
    n_batches = min(BATCHES, pairs)
    if n_batches < 2:
        return math.nan
    begins = 2 * np.linspace(0, pairs, n_batches, endpoint=False).astype(int)
    sizes = np.diff(np.append(begins, len(values)))
    means = np.add.reduceat(values, begins) / sizes
    off = sizes * (means - values.mean()) ** 2
    return float(math.sqrt(off.sum() / (n_batches - 1) / len(values)))


def order_statistic_error(losses: Floats, confidence: float) -> float:
    """Standard error of a VaR: the binomial interval of order statistics over its width."""
    n = len(losses)
    middle, reach = confidence * n, WIDTH * math.sqrt(n * confidence * (1.0 - confidence))
    low, high = max(int(middle - reach), 0), min(math.ceil(middle + reach), n - 1)
    ordered = np.partition(losses, (low, high))
    return float(ordered[high] - ordered[low]) / (2.0 * WIDTH)


def path_figures(
    paths: ArrayLike, *, periods_per_month: int, confidence: float = 0.95
) -> pd.DataFrame:
    """Drawdown, time under water and worst month of simulated paths.

    Parameters
    ----------
    paths : array, shape (n_scenarios, n_periods + 1)
        Wealth at all dates, the first one included.
    periods_per_month : int
        Such as 21 trading days or 30 days; no longer than the paths.
    confidence : float
        The quantiles are of this level: 0.95 is exceeded by the worst 5 %.

    Returns
    -------
    DataFrame
        As `risk_figures`. The drawdown is the deepest fall below the running peak, as a share of
        it; time under water the longest run of periods below a peak; the worst month the least
        return over as many consecutive periods.
    """
    wealth = np.asarray(paths, dtype=float)
    if wealth.ndim != 2 or wealth.shape[1] < 2 or not np.isfinite(wealth).all():
        raise DataError(f"paths has shape {wealth.shape}: must be finite (n, at least 2)")
    n_periods = wealth.shape[1] - 1
    if not 1 <= periods_per_month <= n_periods:
        raise ModelError(f"periods_per_month={periods_per_month}: must be in 1..{n_periods}")
    (level,) = _levels(confidence)
    check_tail(level, len(wealth))
    months = wealth[:, periods_per_month:] / wealth[:, :-periods_per_month] - 1.0
    rows = {}
    for name, values in (
        ("drawdown", (1.0 - wealth / np.maximum.accumulate(wealth, axis=1)).max(axis=1)),
        ("periods under water", _longest_under_water(wealth)),
        ("worst month's loss", -months.min(axis=1)),
    ):
        var, _, _ = tail_figures(values, level)
        rows[f"mean {name}"] = float(values.mean()), batch_error(values)
        rows[f"{_percent(level)} quantile of {name}"] = var, order_statistic_error(values, level)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "standard_error"])


def _longest_under_water(wealth: Floats) -> Floats:
    run, longest = np.zeros(len(wealth)), np.zeros(len(wealth))
    below = wealth < np.maximum.accumulate(wealth, axis=1)
    for column in below.T:
        run = np.where(column, run + 1.0, 0.0)
        longest = np.maximum(longest, run)
    return longest


def volatility_contributions(
    weights: pd.Series[float],
    covariance: pd.DataFrame | Floats,
    groups: Mapping[Hashable, Hashable] | None = None,
) -> pd.DataFrame:
    """Contributions ``w_i (Sw)_i / sigma`` to the volatility, which add up to it.

    Parameters
    ----------
    weights : Series by asset
    covariance : DataFrame or array, shape (n_assets, n_assets)
    groups : mapping of asset to group, optional
        Sums by group instead; assets left out are their own group.

    Returns
    -------
    DataFrame
        Columns ``contribution`` and ``share``.
    """
    w: Floats = np.asarray(weights, dtype=float)
    matrix = covariance
    if isinstance(matrix, pd.DataFrame):
        matrix = matrix.loc[weights.index, weights.index].to_numpy(dtype=float)
    marginal = matrix @ w
    variance = float(w @ marginal)
    volatility = math.sqrt(variance) if variance > 0.0 else 1.0
    parts: Floats = w * np.asarray(marginal, dtype=float) / volatility
    return _shares(parts, list(weights.index), groups)


def cvar_contributions(
    gains: ArrayLike,
    positions: Sequence[Hashable],
    *,
    confidence: float,
    groups: Mapping[Hashable, Hashable] | None = None,
) -> pd.DataFrame:
    """Contributions to CVaR: mean loss of each position in the tail of the whole.

    They are the derivatives of CVaR with respect to the size of each position (Tasche, 1999), and
    add up to it.

    Parameters
    ----------
    gains : array, shape (n_scenarios, n_positions)
        Earnings by position, such as ``weights * returns`` or `SimulatedWealth.gains`.
    positions : sequence of labels
    confidence : float
    groups : mapping of position to group, optional

    Returns
    -------
    DataFrame
        Columns ``contribution``, ``share`` and ``standard_error``.
    """
    earned = np.asarray(gains, dtype=float)
    if earned.ndim != 2 or earned.shape[1] != len(positions):
        raise DataError(f"gains has shape {earned.shape}: must have {len(positions)} columns")
    losses = _losses(-earned.sum(axis=1))
    (level,) = _levels(confidence)
    check_tail(level, len(losses))
    probabilities = np.full(len(losses), 1.0 / len(losses))
    tail = tail_probabilities(probabilities, losses, 1.0 - level)
    inside = np.flatnonzero(tail)
    parts = -(tail[inside] @ earned[inside])
    table = _shares(parts, list(positions), groups)
    if groups is None:
        # Spread of the tail's scenarios; that the tail itself is estimated adds less.
        error = earned[inside].std(axis=0, ddof=1) / math.sqrt(len(inside))
        table["standard_error"] = error
    return table


def trade_effect(
    returns: ArrayLike, weights: ArrayLike, trade: ArrayLike, *, confidence: float
) -> pd.Series[float]:
    """What a trade does to CVaR, on the same scenarios.

    Parameters
    ----------
    returns : array, shape (n_scenarios, n_assets)
    weights, trade : array, shape (n_assets,)
        Holdings before, and their change; cash pays for it.
    confidence : float

    Returns
    -------
    Series
        ``before``, ``after``, ``incremental`` (their difference) and ``marginal`` (the derivative
        times the trade: the incremental effect of a small one).
    """
    r = np.asarray(returns, dtype=float)
    w, d = np.asarray(weights, dtype=float), np.asarray(trade, dtype=float)
    (level,) = _levels(confidence)
    losses = _losses(-(r @ w))
    check_tail(level, len(losses))
    tail = tail_probabilities(np.full(len(losses), 1.0 / len(losses)), losses, 1.0 - level)
    before = weighted_cvar(losses, confidence=level)
    after = weighted_cvar(-(r @ (w + d)), confidence=level)
    return pd.Series(
        {
            "before": before,
            "after": after,
            "incremental": after - before,
            "marginal": -float(tail @ (r @ d)),
        }
    )


def compare_risk(
    first: ArrayLike, second: ArrayLike, *, confidence: float | Sequence[float] = 0.95
) -> pd.DataFrame:
    """Figures of the first less those of the second on common scenarios, paired.

    Parameters
    ----------
    first, second : array, shape (n_scenarios,)
        Losses of two portfolios in the same scenarios.
    confidence : float or sequence of float

    Returns
    -------
    DataFrame
        Columns ``first``, ``second``, ``difference``, ``standard_error`` (of the difference).
    """
    a, b = _losses(first), _losses(second)
    if len(a) != len(b):
        raise DataError(f"first and second have {len(a)} and {len(b)} losses: must be common")
    rows = {"mean return": (-a.mean(), -b.mean(), batch_error(a - b))}
    for level in _levels(confidence):
        check_tail(level, len(a))
        one, other = tail_figures(a, level), tail_figures(b, level)
        error = _var_difference_error(a, b, level)
        rows[f"VaR {_percent(level)}"] = (one[0], other[0], error)
        rows[f"CVaR {_percent(level)}"] = (one[1], other[1], batch_error(one[2] - other[2]))
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["first", "second", "error"])
    table.insert(2, "difference", table["first"] - table["second"])
    return table.rename(columns={"error": "standard_error"})


def _var_difference_error(a: Floats, b: Floats, level: float) -> float:
    """By Bahadur: a quantile moves by the mean of an indicator over the density at it."""
    parts = []
    for z in (a, b):
        at = tail_figures(z, level)[0]
        slope = order_statistic_error(z, level) / math.sqrt(level * (1.0 - level) / len(z))
        parts.append((z > at) * slope)
    return batch_error(parts[0] - parts[1])


def control_variate_mean(
    values: ArrayLike, controls: ArrayLike, known_means: ArrayLike
) -> tuple[float, float]:
    """Mean of values and its standard error, corrected by controls whose means are known.

    Parameters
    ----------
    values : array, shape (n_scenarios,)
    controls : array, shape (n_scenarios, k)
        Such as asset returns under a law with a known mean.
    known_means : array, shape (k,)

    Returns
    -------
    tuple of float
        Least squares on the controls; its bias is of order 1 / n.
    """
    y, x = _losses(values), np.asarray(controls, dtype=float)
    x = x[:, None] if x.ndim == 1 else x
    means = np.atleast_1d(np.asarray(known_means, dtype=float))
    if x.shape != (len(y), len(means)):
        raise DataError(f"controls has shape {x.shape}: must be ({len(y)}, {len(means)})")
    slopes = np.linalg.lstsq(x - x.mean(axis=0), y - y.mean(), rcond=None)[0]
    corrected = y - (x - means) @ slopes
    return float(corrected.mean()), batch_error(corrected)


def check_tail(confidence: float, n_scenarios: int) -> None:
    """Warn where a tail holds few scenarios."""
    tail = (1.0 - confidence) * n_scenarios
    if tail < FEWEST_IN_THE_TAIL - 1e-9:
        needed = math.ceil(FEWEST_IN_THE_TAIL / (1.0 - confidence) - 1e-9)
        warnings.warn(
            f"confidence={confidence:g}: {tail:.3g} of {n_scenarios} scenarios lie in the tail; "
            f"{needed} scenarios would put {FEWEST_IN_THE_TAIL} there",
            NumericalWarning,
            stacklevel=3,
        )


def _levels(confidence: float | Sequence[float]) -> list[float]:
    levels = [float(c) for c in np.atleast_1d(np.asarray(confidence, dtype=float))]
    for level in levels:
        if not 0.0 < level < 1.0:
            raise ModelError(f"confidence={level}: must be between 0 and 1 (0.95 is the worst 5 %)")
    return levels


def _losses(values: ArrayLike) -> Floats:
    z: Floats = np.asarray(values, dtype=float)
    if z.ndim != 1 or len(z) < 2 or not np.isfinite(z).all():
        raise DataError(f"losses has shape {z.shape}: must be at least 2 finite numbers")
    return z


def _percent(share: float) -> str:
    return f"{100.0 * share:.6g} %"


def _shares(
    parts: Floats, labels: list[Hashable], groups: Mapping[Hashable, Hashable] | None
) -> pd.DataFrame:
    series = pd.Series(parts, index=label_index(labels))
    if groups is not None:
        unknown = [name for name in groups if name not in set(labels)]
        if unknown:
            raise ModelError(f"groups name {unknown[0]!r}: known are {labels}")
        sums: dict[Hashable, float] = {}
        for name, part in zip(labels, parts, strict=True):
            group = groups.get(name, name)
            sums[group] = sums.get(group, 0.0) + float(part)
        series = pd.Series(list(sums.values()), index=label_index(sums))
    total = float(series.sum())
    share = series / total if total else series * 0.0
    return pd.DataFrame({"contribution": series, "share": share})
