"""What a policy promised to its horizon, beside what following it to the horizon would have earned.

A receding strategy takes the first decision of each policy and then trains another one, so what it
earns is no test of the promise that a policy makes to its horizon. A shadow account is one: it
follows the policy of one training through all its stages, in the same market, at the same dates,
costs and lag.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from sddp.allocation.policy import AllocationPolicy
from sddp.arrays import Floats
from sddp.backtest.limits.positions import money_of_known, without_unquoted
from sddp.backtest.multistage import MultistageStrategy
from sddp.backtest.trading.execution import (
    Cost,
    TransactionCosts,
    execute,
    requested_trades,
    target_weights,
)
from sddp.errors import InfeasibleState, ModelError
from sddp.estimation.scenario_models import ScenarioEstimate
from sddp.labels import CASH
from sddp.market.market import View


@dataclass(eq=False)
class _Shadow:
    """The account of one policy.

    `start` and `own_start` are wealth when its first order is due; `closes` is the row on which its
    horizon has come, once it is known.
    """

    date: pd.Timestamp
    policy: AllocationPolicy
    estimate: ScenarioEstimate
    holdings: Floats
    expected: float
    bound: float
    stage: int = 0
    orders: list[tuple[int, Floats]] = field(default_factory=list)
    closes: int | None = None
    start: float = np.nan
    own_start: float = np.nan


@dataclass
class ShadowedStrategy:
    """A receding multi-stage strategy, with a shadow account for each of its trainings.

    It decides as `strategy` does. Where no decision of a policy keeps its limit the shadow account
    sells everything, as ``on_failure="keep"`` does.

    Parameters
    ----------
    strategy : MultistageStrategy
    transaction_cost : float, mapping by asset, or pair (buy, sell) of either
        What the market charges, as in `backtest`.

    Raises
    ------
    ModelError
        The strategy runs its policies through itself.
    """

    strategy: MultistageStrategy
    transaction_cost: Cost | tuple[Cost, Cost]
    _open: list[_Shadow] = field(default_factory=list, init=False, repr=False)
    _closed: list[dict[str, Any]] = field(default_factory=list, init=False, repr=False)
    _lag: int = field(default=0, init=False, repr=False)
    _row: int = field(default=-1, init=False, repr=False)
    _wealth: float = field(default=np.nan, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.strategy.mode != "receding":
            raise ModelError(
                f"strategy.mode={self.strategy.mode!r}: must be 'receding'; one that runs its "
                "policies through earns what they promise or not by itself"
            )

    @property
    def decision_log(self) -> list[dict[str, Any]]:
        """The strategy's own."""
        return self.strategy.decision_log

    def decision_log_table(self) -> pd.DataFrame:
        """The strategy's own table."""
        return self.strategy.decision_log_table()

    def observe(self, view: View, wealth: float, lag: int) -> None:
        """Earn the row's returns, and execute what is due; see `Observing`."""
        self._lag, self._row, self._wealth = lag, self._row + 1, wealth
        rates: Any = np.nan_to_num(np.append(view.cash_rate.iloc[-1], view.returns.iloc[-1]))
        for shadow in list(self._open):
            earned: Floats = shadow.holdings * (1.0 + rates)
            shadow.holdings = earned
            self._settle(shadow, view)

    def decide(self, view: View, holdings: pd.Series[float]) -> pd.Series[float]:
        """The strategy's decision; shadow accounts take theirs."""
        answer = self.strategy.decide(view, holdings)
        note = self.strategy.decision_log[-1]
        policy, estimate = self.strategy.policy, self.strategy.estimate
        if note["refit"] and not note["failure"] and policy is not None and estimate is not None:
            held: Floats = np.array(holdings, dtype=float)
            told = float(note["horizon_mean"]), float(note["bound"]) - 1.0
            self._open.append(_Shadow(view.date, policy, estimate, held.copy(), *told))
        for shadow in self._open:
            if shadow.stage < self.strategy.n_stages:
                weights = target_weights(self._decided(shadow, view), list(view.assets))
                shadow.orders.append((self._row + self._lag, weights))
                shadow.stage += 1
            elif shadow.closes is None:
                shadow.closes = self._row + self._lag
        for shadow in list(self._open):
            self._settle(shadow, view)
        return answer

    def horizons(self) -> pd.DataFrame:
        """Promised and earned returns to the horizon, of trainings whose horizon has passed.

        Returns
        -------
        DataFrame, by date of the training
            ``expected`` return to the horizon under the policy's cuts, and ``bound`` on it;
            ``realized``, of the shadow account; ``receding``, of the strategy over the same rows.
            Net of costs, on wealth before the first trade. The first two columns that
            `sddp.evaluation.return_tests` reads are ``expected`` and ``realized``.
        """
        columns = ["date", "expected", "bound", "realized", "receding"]
        table = pd.DataFrame(self._closed, columns=columns).set_index("date")
        return table.sort_index()

    def checkpoint(self) -> None:
        """None: a run with shadow accounts is not resumed in the middle."""
        return

    def resume(self, state: Mapping[str, Any], view: View) -> None:
        """Not reached: `checkpoint` gives nothing to resume from."""
        raise ModelError("shadow accounts are not resumed; run the backtest again")

    def _decided(self, shadow: _Shadow, view: View) -> pd.Series[float]:
        """Weights of the policy's decision of the present stage, from the shadow's holdings."""
        money = pd.Series(shadow.holdings, index=[CASH, *view.assets])
        known = money_of_known(money, shadow.policy.problem.asset_names, self.strategy.model)
        belief = shadow.estimate.belief(view)
        try:
            decision = shadow.policy.decide(stage=shadow.stage, regime=belief, holdings=known)
        except InfeasibleState:
            return pd.Series({CASH: 1.0})
        return without_unquoted(decision.weights, view)

    def _settle(self, shadow: _Shadow, view: View) -> None:
        """Execute the orders of this row; close where the horizon has come."""
        while shadow.orders and shadow.orders[0][0] <= self._row:
            _, weights = shadow.orders.pop(0)
            if np.isnan(shadow.start):
                shadow.start, shadow.own_start = float(shadow.holdings.sum()), self._wealth
            costs = TransactionCosts.of(self.transaction_cost, list(view.assets))
            trades = requested_trades(shadow.holdings, weights, costs)
            quoted = view.quoted.to_numpy()[-1]
            shadow.holdings = execute(shadow.holdings, trades, costs, quoted).holdings
        if shadow.closes is not None and self._row >= shadow.closes:
            self._open.remove(shadow)
            self._closed.append(
                {
                    "date": shadow.date,
                    "expected": shadow.expected,
                    "bound": shadow.bound,
                    "realized": float(shadow.holdings.sum()) / shadow.start - 1.0,
                    "receding": self._wealth / shadow.own_start - 1.0,
                }
            )
