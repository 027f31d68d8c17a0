"""`BacktestReport`: what a backtest says, as tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sddp.arrays import Floats
from sddp.backtest.ledger import Ledger
from sddp.backtest.strategies import Strategy
from sddp.dates import periods_per_year
from sddp.display.shown import as_html
from sddp.errors import DataError
from sddp.evaluation import deflated_sharpe as deflation
from sddp.evaluation import inference, metrics
from sddp.evaluation import risk_forecast_tests as promise_tests
from sddp.evaluation import risk_forecasts as promises
from sddp.evaluation.inference import Resampling, Sample
from sddp.labels import CASH
from sddp.rng import Rng
from sddp.tables import day

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sddp.reporting.content import Contents


@dataclass(frozen=True, eq=False, repr=False)
class BacktestReport:
    """Ledgers of the strategies of one backtest, and what follows from them.

    Attributes
    ----------
    ledgers : mapping of str to Ledger
        By strategy.
    cash_rate : Series, shape (n_rows,)
        Decimal return of cash, earned over ``(t-1, t]``.
    lag : int
        Rows between a decision and its execution.
    strategies : mapping of str to Strategy
        The run's own copies of the strategies, as they were after the last row: where one keeps a
        journal or a trained model, it is found here.
    """

    ledgers: Mapping[str, Ledger]
    cash_rate: pd.Series[float]
    lag: int
    strategies: Mapping[str, Strategy]

    @property
    def timing(self) -> str:
        """When decisions were executed, and whether that could be done."""
        if self.lag == 0:
            return "lag 0: not executable unless quotes are simultaneous"
        return f"lag {self.lag}: executed {self.lag} row{'s' * (self.lag > 1)} after the decision"

    @property
    def wealth(self) -> pd.DataFrame:
        """Money before each row's trades, shape (n_rows, n_strategies); see `Ledger.wealth`."""
        return pd.DataFrame({name: ledger.wealth for name, ledger in self.ledgers.items()})

    @property
    def returns(self) -> pd.DataFrame:
        """Simple decimal returns after costs, shape (n_rows - 1, n_strategies)."""
        wealth = self.wealth
        values = metrics.simple_returns(wealth)
        return pd.DataFrame(values, index=wealth.index[1:], columns=wealth.columns)

    def ledger(self, name: str) -> Ledger:
        """Every movement of money of one strategy.

        Raises
        ------
        DataError
            There is no strategy of that name.
        """
        if name not in self.ledgers:
            raise DataError(f"strategy {name!r} is unknown; known are {list(self.ledgers)}")
        return self.ledgers[name]

    def weights(self, name: str) -> pd.DataFrame:
        """Fractions of wealth held after each row's trades, cash first; raises as `ledger`."""
        return self.ledger(name).weights

    def summary(self, *, confidence: float = 0.95, benchmark: str | None = None) -> pd.DataFrame:
        """Metrics by strategy, as defined in `sddp.evaluation.metrics`.

        Parameters
        ----------
        confidence : float
            Level of `value_at_risk` and `cvar`, losses of one period: 0.9 is the worst 10 %.
        benchmark : str, optional
            A strategy to which the others are compared.

        Returns
        -------
        DataFrame, shape (n_strategies, n_metrics)
            Decimal fractions. `annualised_return`, `volatility`, `turnover` (purchases plus sales
            over wealth) and `cost_drag` (costs over wealth) are per year; `costs_paid` and
            `final_wealth` are money; `average_cash` is the mean share of cash after trading;
            `execution` says how decisions were traded. With a benchmark also `beta`, `alpha`,
            `tracking_error` and `information_ratio`.

        Raises
        ------
        DataError
            There is no strategy named `benchmark`.
        """
        rows = {name: self._metrics(ledger, confidence) for name, ledger in self.ledgers.items()}
        table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("strategy")
        return table if benchmark is None else table.join(self._against(benchmark))

    def intervals(
        self,
        *,
        rng: Rng,
        level: float = 0.95,
        n_draws: int = 5000,
        confidence: float = 0.95,
        block_length: float | None = None,
    ) -> pd.DataFrame:
        """Bootstrap intervals of the metrics, as `inference.intervals` returns them.

        They are conditional on the policies as fitted, see `sddp.evaluation.inference`.

        Parameters
        ----------
        rng, level, n_draws, block_length
            As in `inference.Resampling`.
        confidence : float
            Level of the CVaR.

        Raises
        ------
        ModelError
            As `inference.Resampling`.
        """
        how = Resampling(rng, n_draws, level, block_length)
        return inference.intervals(self._sample, how, confidence=confidence)

    def differences(
        self,
        reference: str,
        *,
        rng: Rng,
        level: float = 0.95,
        n_draws: int = 5000,
        block_length: float | None = None,
    ) -> pd.DataFrame:
        """Sharpe ratio and mean excess return less those of `reference`, with intervals and tests.

        Parameters as `intervals`; see `inference.differences` for what is returned and raised.
        """
        how = Resampling(rng, n_draws, level, block_length)
        return inference.differences(self._sample, reference, how)

    def deflated_sharpe(
        self, *, trial_sharpes: Sequence[float] | Floats, n_trials: int | None = None
    ) -> pd.DataFrame:
        """Sharpe ratios given that many variants were tried; see `deflation.deflated_sharpe`."""
        return deflation.deflated_sharpe(
            self._sample, trial_sharpes=trial_sharpes, n_trials=n_trials
        )

    def risk_tests(
        self,
        *,
        rng: Rng,
        level: float = 0.95,
        n_draws: int = 5000,
        block_length: float | None = None,
        period: int | None = None,
    ) -> pd.DataFrame:
        """Tests of the one-period risk promised by the strategies that keep a journal.

        Parameters
        ----------
        rng, level, n_draws, block_length
            As `intervals`.
        period : int, optional
            Rows of the period that the models look at, see `promise_tests.promised_periods`.

        Returns
        -------
        DataFrame
            As `promise_tests.promise_tests`; empty if no strategy keeps a journal.

        Raises
        ------
        DataError
            As `promise_tests.promised_periods` and `promise_tests.promise_tests`.
        """
        periods = {
            name: promise_tests.promised_periods(
                self.ledgers[name], journal, lag=self.lag, period=period
            )
            for name, journal in promises.journals(self.strategies, self.ledgers).items()
        }
        how = Resampling(rng, n_draws, level, block_length)
        return promise_tests.promise_tests(periods, how)

    @property
    def _sample(self) -> Sample:
        dates = pd.DatetimeIndex(self.cash_rate.index)
        return Sample(self.returns, self.cash_rate.iloc[1:], periods_per_year(dates))

    def _against(self, benchmark: str) -> pd.DataFrame:
        self.ledger(benchmark)
        sample = self._sample
        base, cash, ppy = sample.returns[benchmark], sample.cash_returns, sample.periods_per_year
        rows = {
            name: {
                "beta": metrics.beta(returns, base, cash),
                "alpha": metrics.alpha(returns, base, cash, ppy),
                "tracking_error": metrics.tracking_error(returns, base, ppy),
                "information_ratio": metrics.information_ratio(returns, base, ppy),
            }
            for name, returns in sample.returns.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index")

    def _metrics(self, ledger: Ledger, confidence: float) -> dict[str, Any]:
        wealth = ledger.wealth
        returns = metrics.simple_returns(wealth)
        cash_returns = self.cash_rate.to_numpy()[1:]
        per_year = periods_per_year(pd.DatetimeIndex(wealth.index))
        fall = metrics.maximum_drawdown(wealth)
        costs = ledger.costs.sum(axis=1)
        return {
            "annualised_return": metrics.annualised_return(wealth),
            "volatility": metrics.volatility(returns, per_year),
            "sharpe": metrics.sharpe_ratio(returns, cash_returns, per_year),
            "sortino": metrics.sortino_ratio(returns, per_year),
            "calmar": metrics.calmar_ratio(wealth),
            "maximum_drawdown": fall.depth,
            "drawdown_peak": fall.peak,
            "drawdown_trough": fall.trough,
            "drawdown_recovery": fall.recovery,
            "value_at_risk": metrics.value_at_risk(returns, confidence=confidence),
            "cvar": metrics.conditional_value_at_risk(returns, confidence=confidence),
            "confidence": confidence,
            "hit_rate": metrics.hit_rate(returns),
            "turnover": metrics.per_year(ledger.turnover),
            "costs_paid": float(costs.sum()),
            "cost_drag": metrics.per_year(costs / wealth),
            "average_cash": float(ledger.weights[CASH].iloc[:-1].mean()),
            "final_wealth": float(wealth.iloc[-1]),
            "execution": self.timing,
        }

    def plot_wealth(self, *, caveat: str = "") -> Figure:
        """Wealth on a log scale with the drawdown below; `caveat` is written beneath."""
        from sddp.reporting import figures

        note = f"{self.timing}; {caveat}" if caveat else self.timing
        return figures.wealth_figure(self.wealth, note)

    def plot_trailing_return(self, *, months: int = 6) -> Figure:
        """Return over the trailing months, by strategy."""
        from sddp.reporting import figures

        return figures.trailing_figure(self.wealth, months, self.timing)

    def plot_allocation(self, name: str, *, largest: int = 9) -> Figure:
        """Weights of one strategy as stacked areas: the `largest` assets, the others, cash."""
        from sddp.reporting import figures

        return figures.allocation_figure({name: self.weights(name)}, largest)

    def plot_trading(self) -> Figure:
        """Turnover and relative costs so far, by strategy."""
        from sddp.reporting import figures

        turnover = pd.DataFrame({name: entry.turnover for name, entry in self.ledgers.items()})
        costs = pd.DataFrame(
            {name: entry.costs.sum(axis=1) for name, entry in self.ledgers.items()}
        )
        return figures.trading_figure(turnover, costs / self.wealth, self.timing)

    def to_html(
        self,
        path: str | PathLike[str],
        *,
        title: str = "Backtest",
        contents: Contents | None = None,
        rng: Rng | None = None,
        caveats: Sequence[str] = (),
        provenance: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write the report as one HTML page that needs nothing beside itself.

        Wealth, metrics, differences, promised and realised risk, trailing and rolling measures,
        allocations, regimes, trading and provenance; what has no data is left out. The file
        appears whole or not at all. `sddp.reporting.gallery.write_figures` writes the same figures
        as PNG.

        Parameters
        ----------
        path : path
            Of the file, replaced if it exists.
        title : str
        contents : Contents, optional
            What is shown: strategies in detail, reference, benchmark, market, windows.
        rng : int, SeedSequence or Generator, optional
            For intervals and tests; without it there are none.
        caveats : sequence of str
            What a reader must know before the numbers.
        provenance : mapping, optional
            What the run was made of (config, data hashes, versions, commit, duration, warnings):
            values, sequences and mappings, shown as they are.

        Returns
        -------
        Path
            Of the page.

        Raises
        ------
        DataError
            The file cannot be written, a strategy named in `contents` is unknown, or what is
            promised cannot be tested (see `risk_tests`).
        ModelError
            `contents` names a reference and there is no `rng`.
        """
        from sddp.reporting import html
        from sddp.reporting.content import Contents, gather

        def page() -> str:
            evidence = gather(self, contents or Contents(), rng)
            return html.page(evidence, title=title, caveats=caveats, provenance=provenance or {})

        return html.write_whole(Path(path), page)

    def _repr_html_(self) -> str:
        dates = self.cash_rate.index
        facts = {"rows": f"{day(dates[0])} to {day(dates[-1])}", "execution": self.timing}
        shown = ["annualised_return", "volatility", "sharpe", "maximum_drawdown", "turnover"]
        return as_html("BacktestReport", facts, {"Net of costs, a year": self.summary()[shown]})

    def __repr__(self) -> str:
        dates = self.cash_rate.index
        names = ", ".join(self.ledgers)
        return f"BacktestReport({names}; {day(dates[0])} to {day(dates[-1])}; {self.timing})"
