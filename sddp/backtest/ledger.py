"""`Ledger`: every movement of money of one strategy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.backtest.trading.decisions import Decision
from sddp.labels import CASH, label_index


class Entry(NamedTuple):
    """One row of the ledger, in money; `earned`, `before` and `after` have cash first."""

    earned: Floats
    before: Floats
    requested: Floats
    executed: Floats
    costs: Floats
    after: Floats


@dataclass(frozen=True, eq=False, repr=False)
class Ledger:
    """Every movement of money of one strategy, row by row.

    On each row returns are earned on what was held since the row before, then trades are
    executed and their costs charged. No trade is executed on the last row: it would earn nothing.

    Attributes
    ----------
    earned : DataFrame, shape (n_rows, 1 + n_assets)
        Money earned since the row before by what was held; 0 on the first row.
    holdings_before, holdings_after : DataFrame, shape (n_rows, 1 + n_assets)
        Money held before and after the row's trades, cash first.
    requested, executed : DataFrame, shape (n_rows, n_assets)
        Trades in money, positive buys. Requested are those that would reach the target weights
        after costs; they differ from the executed ones where an asset has no quote.
    costs : DataFrame, shape (n_rows, n_assets)
        Money charged for the executed trades.
    decisions : DataFrame, shape (n_decisions, 1 + n_assets)
        Target weights by the date on which they were decided (executed `lag` rows later); NaN
        where the decision was to trade nothing.
    """

    earned: pd.DataFrame
    holdings_before: pd.DataFrame
    requested: pd.DataFrame
    executed: pd.DataFrame
    costs: pd.DataFrame
    holdings_after: pd.DataFrame
    decisions: pd.DataFrame

    @classmethod
    def of(
        cls,
        entries: Sequence[Entry],
        decisions: Sequence[Decision],
        dates: pd.DatetimeIndex,
        assets: Any,
    ) -> Ledger:
        """Ledger of one entry per date."""
        positions = label_index([CASH, *assets])

        def table(values: Sequence[Floats], columns: pd.Index[Any]) -> pd.DataFrame:
            return pd.DataFrame(np.array(values), index=dates, columns=columns)

        return cls(
            earned=table([entry.earned for entry in entries], positions),
            holdings_before=table([entry.before for entry in entries], positions),
            requested=table([entry.requested for entry in entries], assets),
            executed=table([entry.executed for entry in entries], assets),
            costs=table([entry.costs for entry in entries], assets),
            holdings_after=table([entry.after for entry in entries], positions),
            decisions=_decision_table(decisions, positions),
        )

    @property
    def wealth(self) -> pd.Series[float]:
        """Money held at each row's quotes before its trades: the first one is the initial wealth.

        The cost of a trade thus falls into the period that follows it, as in the allocation
        model, whose one-period loss includes the cost of the trade at its start.
        """
        return self.holdings_before.sum(axis=1)

    @property
    def weights(self) -> pd.DataFrame:
        """Fractions of wealth held after each row's trades, cash first."""
        return self.holdings_after.div(self.holdings_after.sum(axis=1), axis=0)

    @property
    def turnover(self) -> pd.Series[float]:
        """Purchases plus sales of assets at each row, as a fraction of wealth before them.

        Cash is not counted: exchanging all of one asset for another is a turnover of 2, the first
        purchase of a portfolio one of 1.
        """
        return self.executed.abs().sum(axis=1) / self.wealth

    def imbalance(self) -> pd.Series[float]:
        """Unexplained money at each row as a fraction of wealth: zero but for rounding."""
        before, after = self.holdings_before.to_numpy(), self.holdings_after.to_numpy()
        carried = np.vstack([before[:1], after[:-1]])
        executed = self.executed.to_numpy()
        paid = -executed.sum(axis=1) - self.costs.to_numpy().sum(axis=1)
        moved = np.column_stack([paid, executed])
        earning = np.abs(carried + self.earned.to_numpy() - before)
        trading = np.abs(before + moved - after)
        unexplained = pd.Series((earning + trading).sum(axis=1), index=self.wealth.index)
        return unexplained / self.wealth


def _decision_table(decisions: Sequence[Decision], positions: pd.Index[Any]) -> pd.DataFrame:
    nothing = pd.Series(np.nan, index=positions)
    rows = [nothing if d.weights is None else d.weights for d in decisions]
    dates = pd.DatetimeIndex([d.date for d in decisions])
    return pd.DataFrame(np.array(rows), index=dates, columns=positions)
