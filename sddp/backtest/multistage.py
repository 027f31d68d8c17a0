"""The multi-stage policy as a strategy: estimate, train, decide, re-estimate."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from sddp.allocation.model import AllocationModel
from sddp.allocation.training import AllocationResult, train_allocation
from sddp.arrays import Floats, Ints
from sddp.backtest.market import CASH, View
from sddp.engine.stopping import BoundStalling, Iterations, StoppingRule
from sddp.engine.training import INTERRUPTED
from sddp.errors import DataError, ModelError
from sddp.statistics import FactorModel, FittedRegimes, GaussianRegimes, markov_scenarios


@dataclass(frozen=True)
class Estimation:
    """How regimes and scenarios are estimated from a window of rows.

    Parameters
    ----------
    window : int
        Rows used, ending today.
    period : int
        Rows per stage: 5 turns daily rows into weekly decisions. Regimes are fitted to the
        returns of whole periods, on all `period` ways to cut the window into them, as if these
        were separate sequences: every row is used, and what overlaps does not follow itself.
    regimes : GaussianRegimes
        Its `min_count`, where given, is in periods of one sequence and is multiplied by `period`
        here; its default is taken as it is, in overlapping periods.
    n_scenarios : int
        Per regime.
    sampling : str
        As in `markov_scenarios`.
    """

    window: int = 504
    period: int = 1
    regimes: GaussianRegimes = field(default_factory=GaussianRegimes)
    n_scenarios: int = 250
    sampling: str = "sobol"

    def __post_init__(self) -> None:
        if self.period < 1 or self.window < 2 * self.period:
            raise ModelError(
                f"window = {self.window}, period = {self.period}; give period >= 1 and a window "
                "of many periods"
            )


@dataclass
class MultistageStrategy:
    """Train a multi-stage policy on a sliding window and take its first decision each time.

    Regimes are those of the market's factors, assets follow them through a factor model; without
    factors the regimes are those of the assets. Every decision is the policy's stage-0 decision
    under the filtered belief over regimes, from the holdings held now; the policy is trained
    anew every `refit_every` decisions.

    Parameters
    ----------
    model : AllocationModel
        What the strategy believes of costs and limits; its `cash_return` is replaced by the cash
        rate known today, compounded over a period.
    rng : Generator
        For the fit, the scenarios and training.
    n_stages : int
        Decisions the policy looks ahead.
    estimation : Estimation
    stopping : StoppingRule
        Of training.
    refit_every : int
        Decisions between two trainings.

    Attributes
    ----------
    journal : list of dict
        One entry per decision: ``date``, ``refit``, ``belief`` (tuple), ``model_cvar`` (one-period,
        fraction of wealth), ``limit_binds``, ``cash``.
    result : AllocationResult or None
        The last training.
    """

    model: AllocationModel
    rng: np.random.Generator
    n_stages: int = 12
    estimation: Estimation = field(default_factory=Estimation)
    stopping: StoppingRule = field(default_factory=lambda: BoundStalling(5, 1e-6) | Iterations(40))
    refit_every: int = 1
    journal: list[dict[str, Any]] = field(default_factory=list, init=False)
    result: AllocationResult | None = field(default=None, init=False)
    _regimes: FittedRegimes | None = field(default=None, init=False)

    # A decision whose CVaR is this near the limit, relative to wealth, is held back by it.
    BINDING = 1e-6

    def decide(self, view: View, holdings: pd.Series[float]) -> pd.Series[float]:
        """Weights of the stage-0 decision."""
        refit = self.result is None or len(self.journal) % self.refit_every == 0
        belief = self._train(view) if refit else self._belief(view)
        assert self.result is not None
        money = {str(name): float(amount) for name, amount in holdings.items()}
        decision = self.result.policy.decide(regime=belief, holdings=money)
        limit = self.model.cvar_limit
        self.journal.append(
            {
                "date": view.date,
                "refit": refit,
                "belief": tuple(belief.tolist()),
                "model_cvar": decision.cvar,
                "limit_binds": limit is not None and decision.cvar >= limit - self.BINDING,
                "cash": float(decision.weights[CASH]),
            }
        )
        return decision.weights

    def journal_table(self) -> pd.DataFrame:
        """The journal by date of decision, beliefs as columns ``regime 1`` (calmest), ..."""
        table = pd.DataFrame(self.journal).set_index("date")
        rows = table.pop("belief").tolist()
        n_regimes = max(len(row) for row in rows)
        names = [f"regime {k + 1}" for k in range(n_regimes)]
        # A fit may have had to do with fewer regimes than asked for.
        beliefs = pd.DataFrame(rows, index=table.index, columns=names)
        return table.join(beliefs.fillna(0.0))

    def _train(self, view: View) -> Floats:
        """Estimate and train anew; returns today's belief under the new regimes."""
        settings = self.estimation
        factors, lengths = periods(self._drivers(view), settings.window, settings.period)
        fit_rng, scenario_rng, train_rng = self.rng.spawn(3)
        fitted = _per_sequence(settings).fit_quietly(
            factors, lengths=lengths, start=self._regimes, rng=fit_rng
        )
        assets = None
        if view.factors is not None:
            own, _ = periods(view.log_returns, settings.window, settings.period)
            assets = FactorModel().fit(own, factors)
        scenarios = markov_scenarios(
            fitted,
            assets,
            n_stages=self.n_stages,
            n_scenarios=settings.n_scenarios,
            rng=scenario_rng,
            sampling=settings.sampling,
        )
        rate = float(view.cash_rate.iloc[-1]) if len(view.dates) > 1 else 0.0
        self._regimes = fitted
        belief = self._belief(view)
        result = train_allocation(
            replace(self.model, cash_return=(1.0 + rate) ** settings.period - 1.0),
            scenarios,
            initial_holdings={CASH: 1.0},
            initial_regime=int(belief.argmax()),
            stopping=self.stopping,
            rng=train_rng,
            progress=False,
        )
        if result.stopped_because == INTERRUPTED:
            raise KeyboardInterrupt  # a backtest on half-trained policies would mean nothing
        self.result = result
        return belief

    def _belief(self, view: View) -> Floats:
        """Filtered probabilities of today's regime, from the sequence that ends today."""
        assert self._regimes is not None
        settings = self.estimation
        table, lengths = periods(self._drivers(view), settings.window, settings.period)
        belief: Floats = self._regimes.filter(table.iloc[: lengths[0]])[-1]
        return belief

    @staticmethod
    def _drivers(view: View) -> pd.DataFrame:
        return view.log_returns if view.factors is None else view.factors


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
        raise DataError(
            f"the window needs {window} rows of returns, but only {len(rows)} are known on "
            f"{log_returns.index[-1]:%Y-%m-%d}; start later or shorten the window"
        )
    sequences = [_sums(rows.iloc[: len(rows) - shift], period) for shift in range(period)]
    return pd.concat(sequences), np.array([len(s) for s in sequences], dtype=np.int64)


def _sums(rows: pd.DataFrame, period: int) -> pd.DataFrame:
    """Sums over whole periods, counted back from the last row."""
    n_periods = len(rows) // period
    used = rows.iloc[len(rows) - n_periods * period :]
    sums = used.to_numpy().reshape(n_periods, period, -1).sum(axis=1)
    return pd.DataFrame(sums, index=used.index[period - 1 :: period], columns=rows.columns)


def _per_sequence(settings: Estimation) -> GaussianRegimes:
    """Overlapping sequences repeat each row `period` times: a regime needs as many more."""
    regimes = settings.regimes
    if regimes.min_count is None:
        return regimes
    return replace(regimes, min_count=regimes.min_count * settings.period)
