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
from sddp.backtest.trading.account import Account, Rules
from sddp.backtest.trading.execution import Cost, TransactionCosts
from sddp.backtest.trading.messages import Envelope
from sddp.backtest.trading.step import step
from sddp.backtest.triggers.trades import Signal
from sddp.errors import InfeasibleState, ModelError
from sddp.estimation.scenario_models import ScenarioEstimate
from sddp.labels import CASH
from sddp.market.market import View

# What a shadow account is told where the strategy decides.
DECIDE = "shadow.decide"


@dataclass(eq=False)
class _Followed:
    """Strategy that follows one policy through its stages."""

    policy: AllocationPolicy
    estimate: ScenarioEstimate
    model: Any
    stage: int = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> _Followed:
        """An account copies its strategy; the policy itself is never changed."""
        return _Followed(self.policy, self.estimate, self.model, self.stage)

    def decide(self, view: View, holdings: pd.Series[float]) -> pd.Series[float]:
        """Weights of the policy's decision of the present stage."""
        known = money_of_known(holdings, self.policy.problem.asset_names, self.model)
        belief = self.estimate.belief(view)
        self.stage += 1
        try:
            decision = self.policy.decide(stage=self.stage - 1, regime=belief, holdings=known)
        except InfeasibleState:
            return pd.Series({CASH: 1.0})
        return without_unquoted(decision.weights, view)


@dataclass(eq=False)
class _Shadow:
    """The account of one policy, which `step` trades.

    `start` and `own_start` are wealth when its first order is due; `closes` is its row on which the
    horizon has come, once it is known.
    """

    date: pd.Timestamp
    account: Account
    expected: float
    bound: float
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
    _wealth: float = field(default=np.nan, init=False, repr=False)
    _view: View | None = field(default=None, init=False, repr=False)
    _decided: bool = field(default=False, init=False, repr=False)

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
        """Take the row before, and note this one; see `Observing`.

        Shadow accounts take a row once it is known whether the strategy decides on it.
        """
        self._take_row()
        self._lag, self._wealth, self._view = lag, wealth, view

    def decide(self, view: View, holdings: pd.Series[float]) -> pd.Series[float]:
        """The strategy's decision; shadow accounts take theirs with the row."""
        answer = self.strategy.decide(view, holdings)
        self._decided = True
        note = self.strategy.decision_log[-1]
        policy, estimate = self.strategy.policy, self.strategy.estimate
        if note["refit"] and not note["failure"] and policy is not None and estimate is not None:
            held: Floats = np.array(holdings, dtype=float)
            costs = TransactionCosts.of(self.transaction_cost, list(view.assets))
            account = Account(
                _Followed(policy, estimate, self.strategy.model),
                view.assets,
                Rules(costs, self._lag, float(held.sum()), Signal(DECIDE)),
            )
            account.holdings = held
            told = float(note["horizon_mean"]), float(note["bound"]) - 1.0
            self._open.append(_Shadow(view.date, account, *told))
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
        self._take_row()
        columns = ["date", "expected", "bound", "realized", "receding"]
        table = pd.DataFrame(self._closed, columns=columns).set_index("date")
        return table.sort_index()

    def checkpoint(self) -> None:
        """None: a run with shadow accounts is not resumed in the middle."""
        return

    def resume(self, state: Mapping[str, Any], view: View) -> None:
        """Not reached: `checkpoint` gives nothing to resume from."""
        raise ModelError("shadow accounts are not resumed; run the backtest again")

    def _take_row(self) -> None:
        """Trade the shadow accounts on the row that was noted; close those at their horizon."""
        view, self._view = self._view, None
        if view is None:
            return
        for shadow in list(self._open):
            account, row = shadow.account, shadow.account.row
            followed: Any = account.strategy
            if self._decided and row and followed.stage < self.strategy.n_stages:
                account.receive(Envelope(DECIDE, {}, str(row)))
            elif self._decided and row and shadow.closes is None:
                shadow.closes = row + self._lag
            step(account, view)
            if row == self._lag:
                assert account.entry is not None
                shadow.start = float(account.entry.before.sum())
                shadow.own_start = self._wealth
            if shadow.closes is not None and row >= shadow.closes:
                self._open.remove(shadow)
                self._closed.append(
                    {
                        "date": shadow.date,
                        "expected": shadow.expected,
                        "bound": shadow.bound,
                        "realized": float(account.holdings.sum()) / shadow.start - 1.0,
                        "receding": self._wealth / shadow.own_start - 1.0,
                    }
                )
        self._decided = False
