"""Estimation of regimes, scenarios and the present belief from a view of the market.

An estimate depends on the rows of its window, the settings, the seed and the fit it started from,
and on nothing else: not on which strategy asks, in which order or process. So strategies that
share the settings share the fits, and a fit once made can be kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, get_args

import numpy as np
import pandas as pd

from sddp.allocation.one_period import OnePeriodDistribution, one_period_distribution
from sddp.arrays import Floats, Ints
from sddp.cache.fingerprint import NOT_DESCRIBED, generator_for
from sddp.errors import DataError, ModelError
from sddp.estimation.fit_cache import Fit, FitCache
from sddp.estimation.means import (
    MeanEstimator,
    MeanInputs,
    SampleMeans,
    checked_means,
    covariance_of,
    mean_distances,
    mean_excess,
)
from sddp.market.market import View
from sddp.rng import Seed, seed_sequence
from sddp.scenarios import MarkovScenarios
from sddp.statistics import (
    FactorModel,
    GaussianRegimes,
    Regimes,
    historical_scenarios,
    markov_scenarios,
)

# A change of regime that some hundred rows never showed is improbable, not impossible: this share
# of the uniform law is mixed into the chain of the scenarios, so that a trained policy has learned
# about every regime.
UNSEEN_CHANGE = 1e-6

ScenarioKind = Literal["gaussian", "filtered_history", "predictive"]
LimitMeans: TypeAlias = "Literal['same', 'zero'] | MeanEstimator"


@dataclass(frozen=True, eq=False)
class RegimeEstimator:
    """Settings by which regimes and scenarios are estimated from a view.

    Regimes are those of the market's factors, assets follow them through a factor model, fitted to
    the rows on which each was quoted and leaving out those not quoted today; without factors the
    regimes are those of the assets' log returns.

    Parameters
    ----------
    seed : int or SeedSequence
        Counts together with the date: fit and scenarios of a date are the same whatever was drawn
        before. Estimators with the same seed draw the same numbers.
    scenario_seed : int or SeedSequence, optional
        Of the scenarios alone; by default `seed`.
    window : int
        Rows used, ending today; the fewest, with `expanding`.
    expanding : bool
        Use all rows from the first one on.
    period : int
        Rows per stage: 5 turns daily rows into weekly decisions. Regimes are fitted to the
        returns of whole periods, on all `period` ways to cut the window into them, as if these
        were separate sequences: every row is used, and what overlaps does not follow itself.
    regimes : GaussianRegimes
        Its least count, its prior and BIC are in periods that do not overlap.
    n_scenarios : int
        Per regime.
    sampling : str
        As in `markov_scenarios`.
    moment_matching : bool
        Give the scenarios of each regime exactly the fitted mean and covariance; those of history
        have them anyway.
    scenarios : {"gaussian", "filtered_history", "predictive"}
        Drawn from the fitted normal laws; or the rows of the window, standardized by regime and
        joined with the residuals of the same row (at most `n_scenarios` of them); or these with the
        uncertainty of the parameters. See `sddp.statistics.historical_scenarios`.
    carry : bool
        Take the parameters of the fit before as one of the starts. Without it a fit depends on
        its window alone, and schedules with different refits share those of common dates.
    means : MeanEstimator
        What each regime is expected to earn over cash: its scenarios are shifted to that mean. See
        `sddp.estimation.means`.
    limit_means : {"same", "zero"} or MeanEstimator
        The means of the law that a risk limit measures losses on: those of `means`, none over cash,
        or others.
    cache : FitCache
        Where fits are looked up; it moves no number.

    Raises
    ------
    ModelError
        `window` or `period` make no sense, `seed` is neither an integer nor a SeedSequence, or
        `means` or `limit_means` estimate no means, or `scenarios` is another word.
    """

    seed: Seed
    window: int = 504
    expanding: bool = False
    period: int = 1
    regimes: GaussianRegimes = field(default_factory=GaussianRegimes)
    n_scenarios: int = 1024
    sampling: str = "sobol"
    moment_matching: bool = False
    scenarios: ScenarioKind = "gaussian"
    carry: bool = True
    means: MeanEstimator = field(default_factory=SampleMeans)
    limit_means: LimitMeans = "same"
    scenario_seed: Seed | None = None
    cache: FitCache = field(default_factory=FitCache, repr=False, metadata=NOT_DESCRIBED)

    def __post_init__(self) -> None:
        if self.period < 1 or self.window < 2 * self.period:
            raise ModelError(
                f"window = {self.window}, period = {self.period}; give period >= 1 and a window "
                "of many periods"
            )
        seed_sequence(self.seed)
        if self.scenario_seed is not None:
            seed_sequence(self.scenario_seed)
        for name, words in (("means", ()), ("limit_means", ("same", "zero"))):
            check_means(name, getattr(self, name), words)
        if self.scenarios not in get_args(ScenarioKind):
            known = ", ".join(repr(kind) for kind in get_args(ScenarioKind))
            raise ModelError(f"scenarios={self.scenarios!r}: must be one of {known}")

    def estimate(self, view: View, *, start: Fit | None = None) -> RegimeEstimate:
        """Regimes and scenarios from the rows of a view.

        Parameters
        ----------
        view : View
        start : Fit, optional
            The fit before, used where `carry` says so.

        Raises
        ------
        DataError
            Fewer rows than `window` are known, or they do not carry a fit (see
            `GaussianRegimes.fit`).
        """
        start = start if self.carry else None
        table, lengths = self.drivers(view)
        rng = generator_for(self.seed, "regimes", view.date)
        fit = self.cache.fit(
            self.regimes, table, lengths, start=start, overlap=self.period, rng=rng
        )
        drawn = self._drawn(view, fit.regimes, table, lengths)
        estimate = self._estimate(view, start, fit, _with_unseen_changes(drawn))
        if isinstance(self.means, SampleMeans) and self.limit_means == "same":
            return estimate
        inputs = self._mean_inputs(view, table, lengths, estimate)
        return replace(estimate, scenarios=self._with_means(estimate.scenarios, inputs))

    def drivers(self, view: View) -> tuple[pd.DataFrame, Ints]:
        """Regime variables: log returns over whole periods, see `periods`."""
        table = view.log_returns if view.factors is None else view.factors
        return periods(table, self._rows(view), self.period)

    def followers(self, view: View) -> pd.DataFrame:
        """Asset returns: log returns over whole periods of assets quoted today; NaN for gaps."""
        known = view.log_returns.where(view.quoted.loc[view.returns.index])
        table, _ = periods(known.loc[:, view.quoted.iloc[-1]], self._rows(view), self.period)
        return table

    def belief(self, regimes: Regimes, view: View) -> Floats:
        """Filtered probabilities of the present regime, shape (n_states,)."""
        table, lengths = self.drivers(view)
        return regimes.belief(table.iloc[: lengths[0]])

    def cash_return(self, view: View) -> float:
        """Return of cash over a period at the rate known today."""
        rate = float(view.cash_rate.iloc[-1]) if len(view.dates) > 1 else 0.0
        return float((1.0 + rate) ** self.period - 1.0)

    def excess_returns(self, view: View) -> tuple[pd.DataFrame, pd.Series[float]]:
        """Simple returns of the window's whole periods: of assets quoted today, and of cash."""
        if view.factors is None:
            assets = self.drivers(view)[0]
        else:
            assets = RegimeEstimator.followers(self, view)
        rate = view.cash_rate.loc[view.returns.index].to_frame()
        cash, _ = periods(rate.apply(np.log1p), self._rows(view), self.period)
        return assets.apply(np.expm1), cash["cash_rate"].apply(np.expm1)

    def _drawn(
        self, view: View, regimes: Regimes, table: pd.DataFrame, lengths: Ints
    ) -> MarkovScenarios:
        """Scenarios of one stage, as the regimes and the assets' own model have them."""
        assets, followers = None, None
        if view.factors is not None:
            followers = self.followers(view)
            assets = FactorModel(missing="skip").fit(followers, table)
        seed = self.seed if self.scenario_seed is None else self.scenario_seed
        rng = generator_for(seed, "scenarios", view.date)
        if self.scenarios == "gaussian":
            return markov_scenarios(
                regimes,
                assets,
                n_stages=1,
                n_scenarios=self.n_scenarios,
                rng=rng,
                sampling=self.sampling,
                moment_matching=self.moment_matching,
            )
        counts = None
        if self.scenarios == "predictive":
            counts = regimes.filter(table, lengths=lengths).sum(axis=0) / self.period
        return historical_scenarios(
            regimes,
            table,
            assets,
            followers,
            n_stages=1,
            n_scenarios=self.n_scenarios,
            lengths=lengths,
            independent_rows=counts,
            rng=rng,
        )

    def _mean_inputs(
        self, view: View, table: pd.DataFrame, lengths: Ints, estimate: RegimeEstimate
    ) -> MeanInputs:
        regimes, scenarios = estimate.regimes, estimate.scenarios
        assets, cash = self.excess_returns(view)
        shares = regimes.filter(table, lengths=lengths).mean(axis=0)
        n_independent = len(table) / self.period
        returns = scenarios.returns[0]
        return MeanInputs(
            names=tuple(scenarios.asset_names or ()),
            pooled=mean_excess(assets, cash),
            by_regime=returns.mean(axis=1) - self.cash_return(view),
            shares=shares,
            covariance=covariance_of(returns, shares),
            n_independent=n_independent,
            distances=mean_distances(regimes, shares, n_independent),
            date=view.date,
        )

    def _with_means(self, scenarios: MarkovScenarios, inputs: MeanInputs) -> MarkovScenarios:
        """Each regime's scenarios shifted to the means asked for."""
        means = checked_means(self.means, inputs)
        shift = None
        if isinstance(self.limit_means, str):
            shift = -means if self.limit_means == "zero" else None
        else:
            shift = checked_means(self.limit_means, inputs) - means
        return replace(
            scenarios,
            returns=scenarios.returns + (means - inputs.by_regime)[:, None],
            limit_shift=shift,
        )

    def _rows(self, view: View) -> int:
        return max(self.window, len(view.returns)) if self.expanding else self.window

    def _estimate(
        self, view: View, start: Fit | None, fit: Fit, scenarios: MarkovScenarios
    ) -> RegimeEstimate:
        return RegimeEstimate(self, view.date, start, fit, scenarios)


@dataclass(frozen=True, eq=False)
class RegimeEstimate:
    """Regimes and scenarios estimated on a date.

    Attributes
    ----------
    estimator : RegimeEstimator
    date : Timestamp
        Of the last row that was used.
    start : Fit or None
        What the fit started from.
    fit : Fit
    scenarios : MarkovScenarios
        One stage; see `over` for more. Assets not quoted on the date are not in them.
    cash_return : float or None
        Return of cash that the scenarios were made with; None where it does not enter them.
    """

    estimator: RegimeEstimator
    date: pd.Timestamp
    start: Fit | None
    fit: Fit
    scenarios: MarkovScenarios
    cash_return: float | None = None

    @property
    def regimes(self) -> Regimes:
        """The fitted regimes, calmest first."""
        return self.fit.regimes

    def belief(self, view: View) -> Floats:
        """Filtered probabilities of the present regime, shape (n_states,).

        From the sequence of periods that ends at the view's last row, which may be later than the
        estimate.
        """
        return self.estimator.belief(self.regimes, view)

    def one_period_distribution(
        self, view: View, *, in_limit: bool = True
    ) -> OnePeriodDistribution:
        """Outcomes of the next period and their weights ``(belief P)_j p_js``, as of a view.

        These are the outcomes that the multi-stage policy's first decision looks out on: those of
        its risk limit, or, without `in_limit`, those of its objective.
        """
        cash_return = self.cash_return
        if cash_return is None:
            cash_return = self.estimator.cash_return(view)
        return one_period_distribution(
            self.scenarios, 0, self.belief(view), cash_return, in_limit=in_limit
        )

    def over(self, n_stages: int) -> MarkovScenarios:
        """The scenarios as the law of each of `n_stages` periods."""
        one = self.scenarios
        return MarkovScenarios(
            returns=one.returns[0],
            transition_matrix=one.transition_matrix[0],
            asset_names=one.asset_names,
            n_stages=n_stages,
            limit_shift=one.limit_shift,
        )


def check_means(name: str, value: object, words: tuple[str, ...] = ()) -> None:
    """Check that an object is a `MeanEstimator`.

    Raises
    ------
    ModelError
        `value` is neither one of the words nor an object with a method `means`.
    """
    known = isinstance(value, str) and value in words
    if not known and (isinstance(value, type) or not callable(getattr(value, "means", None))):
        wanted = " or ".join([*(repr(word) for word in words), "an object with a method means"])
        raise ModelError(f"{name}={value!r}: must be {wanted}; see sddp.estimation.means")


def periods(log_returns: pd.DataFrame, window: int, period: int) -> tuple[pd.DataFrame, Ints]:
    """Log returns of whole periods in a window, cut in all possible ways.

    Parameters
    ----------
    log_returns : DataFrame, shape (n_rows, n)
        Per row; the last row is today.
    window : int
        Rows used.
    period : int
        Rows per period.

    Returns
    -------
    table, lengths
        Sequences one below the other, the one that ends today first, then those that end 1, 2,
        ... rows earlier; and the number of periods in each.

    Raises
    ------
    DataError
        There are fewer rows than `window`.
    """
    rows = log_returns.iloc[-window:]
    if len(rows) < window:
        when = f" on {rows.index[-1]:%Y-%m-%d}" if len(rows) else ""
        raise DataError(
            f"the window needs {window} rows of returns, but only {len(rows)} are known{when}; "
            "start later or shorten the window"
        )
    sequences = [_sums(rows.iloc[: len(rows) - shift], period) for shift in range(period)]
    return pd.concat(sequences), np.array([len(s) for s in sequences], dtype=np.int64)


def _sums(rows: pd.DataFrame, period: int) -> pd.DataFrame:
    """Sums over whole periods, counted back from the last row."""
    n_periods = len(rows) // period
    used = rows.iloc[len(rows) - n_periods * period :]
    sums = used.to_numpy().reshape(n_periods, period, -1).sum(axis=1)
    return pd.DataFrame(sums, index=used.index[period - 1 :: period], columns=rows.columns)


def _with_unseen_changes(drawn: MarkovScenarios) -> MarkovScenarios:
    chain = drawn.transition_matrix[0]
    mixed = (1.0 - UNSEEN_CHANGE) * chain + UNSEEN_CHANGE / len(chain)
    return MarkovScenarios(drawn.returns[0], mixed, asset_names=drawn.asset_names, n_stages=1)
