"""`BacktestResult`: the ledgers of a backtest and the series that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from sddp.backtest.ledger import Ledger
from sddp.backtest.strategies import Strategy
from sddp.backtest.trading.events import Event
from sddp.display.shown import as_html
from sddp.errors import DataError
from sddp.tables import day


@dataclass(frozen=True, eq=False, repr=False)
class BacktestResult:
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
        decision_log or a trained model, it is found here.
    events : mapping of str to tuple of Event
        By strategy, where they were kept.
    """

    ledgers: Mapping[str, Ledger]
    cash_rate: pd.Series[float]
    lag: int
    strategies: Mapping[str, Strategy]
    events: Mapping[str, tuple[Event, ...]] = field(default_factory=dict)

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
        levels = wealth.to_numpy()
        return pd.DataFrame(levels[1:] / levels[:-1] - 1.0, wealth.index[1:], wealth.columns)

    @property
    def cash_returns(self) -> pd.Series[float]:
        """Decimal return of cash over the periods of `returns`, shape (n_rows - 1,)."""
        return self.cash_rate.iloc[1:]

    @property
    def turnover(self) -> pd.DataFrame:
        """Purchases plus sales as fractions of wealth, shape (n_rows, n_strategies)."""
        return pd.DataFrame({name: ledger.turnover for name, ledger in self.ledgers.items()})

    @property
    def costs(self) -> pd.DataFrame:
        """Transaction costs as fractions of wealth, shape (n_rows, n_strategies)."""
        costs = {name: ledger.costs.sum(axis=1) for name, ledger in self.ledgers.items()}
        return pd.DataFrame(costs) / self.wealth

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

    def _repr_html_(self) -> str:
        dates = self.cash_rate.index
        facts = {"rows": f"{day(dates[0])} to {day(dates[-1])}", "execution": self.timing}
        wealth = self.wealth
        table = pd.DataFrame({"first": wealth.iloc[0], "last": wealth.iloc[-1]})
        return as_html("BacktestResult", facts, {"Wealth, net of costs": table})

    def __repr__(self) -> str:
        dates = self.cash_rate.index
        names = ", ".join(self.ledgers)
        return f"BacktestResult({names}; {day(dates[0])} to {day(dates[-1])}; {self.timing})"
