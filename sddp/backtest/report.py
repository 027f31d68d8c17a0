"""`BacktestReport`: what a backtest says, as tables and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from sddp.backtest import metrics
from sddp.backtest.ledger import Ledger
from sddp.backtest.market import CASH
from sddp.backtest.strategies import Strategy
from sddp.backtest.tables import day
from sddp.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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

    def summary(self, *, confidence: float = 0.95) -> pd.DataFrame:
        """Metrics by strategy, as defined in `sddp.backtest.metrics`.

        Parameters
        ----------
        confidence : float
            Level of `value_at_risk` and `cvar`, losses of one period: 0.9 is the worst 10 %.

        Returns
        -------
        DataFrame, shape (n_strategies, n_metrics)
            Decimal fractions. `annualised_return`, `volatility`, `turnover` (purchases plus sales
            over wealth) and `cost_drag` (costs over wealth) are per year; `costs_paid` and
            `final_wealth` are money; `average_cash` is the mean share of cash after trading;
            `execution` says how decisions were traded.
        """
        rows = {name: self._metrics(ledger, confidence) for name, ledger in self.ledgers.items()}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("strategy")

    def _metrics(self, ledger: Ledger, confidence: float) -> dict[str, Any]:
        wealth = ledger.wealth
        returns = metrics.simple_returns(wealth)
        cash_returns = self.cash_rate.to_numpy()[1:]
        per_year = metrics.periods_per_year(pd.DatetimeIndex(wealth.index))
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
        from sddp.backtest import figures

        note = f"{self.timing}; {caveat}" if caveat else self.timing
        return figures.wealth_figure(self.wealth, note)

    def plot_trailing_return(self, *, months: int = 6) -> Figure:
        """Return over the trailing months, by strategy."""
        from sddp.backtest import figures

        return figures.trailing_figure(self.wealth, months, self.timing)

    def plot_allocation(self, name: str, *, largest: int = 9) -> Figure:
        """Weights of one strategy as stacked areas: the `largest` assets, the others, cash."""
        from sddp.backtest import figures

        return figures.allocation_figure(self.weights(name), name, largest)

    def plot_trading(self) -> Figure:
        """Turnover and relative costs so far, by strategy."""
        from sddp.backtest import figures

        turnover = pd.DataFrame({name: entry.turnover for name, entry in self.ledgers.items()})
        costs = pd.DataFrame(
            {name: entry.costs.sum(axis=1) for name, entry in self.ledgers.items()}
        )
        return figures.trading_figure(turnover, costs / self.wealth, self.timing)

    def __repr__(self) -> str:
        dates = self.cash_rate.index
        names = ", ".join(self.ledgers)
        return f"BacktestReport({names}; {day(dates[0])} to {day(dates[-1])}; {self.timing})"
