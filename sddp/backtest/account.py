"""Account of one strategy in a run, and its checkpoints."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sddp.arrays import Floats
from sddp.backtest.ledger import Entry, Ledger
from sddp.backtest.strategies import Decision, Strategy, Trigger
from sddp.backtest.trading import TransactionCosts, execute, requested_trades, target_weights
from sddp.cache.store import Record
from sddp.labels import CASH, label_index
from sddp.market.market import View


@runtime_checkable
class Resumable(Protocol):
    """Strategy that can be checkpointed and resumed with identical results."""

    def checkpoint(self) -> dict[str, Any] | None:
        """State from which a fresh copy can continue, as JSON; None where it cannot be resumed."""
        ...

    def resume(self, state: Mapping[str, Any], view: View) -> None:
        """Resume from a checkpoint; `view` is that of the date on which it was taken."""
        ...


@runtime_checkable
class Observing(Protocol):
    """Strategy that observes its own wealth."""

    def observe(self, view: View, wealth: float, lag: int) -> None:
        """Wealth of the account on a row, before its trades and before it may be asked to decide.

        Parameters
        ----------
        view : View
            What is known on the row.
        wealth : float
            Money, after the costs of all trades of earlier rows.
        lag : int
            Rows between a decision and its execution.
        """
        ...


@dataclass(frozen=True)
class Rules:
    """How strategies are traded.

    Attributes
    ----------
    dates : DatetimeIndex
        Rows of the run.
    costs : TransactionCosts
    lag : int
        Rows between a decision and its execution.
    initial_wealth : float
    rebalance : Trigger
    """

    dates: pd.DatetimeIndex
    costs: TransactionCosts
    lag: int
    initial_wealth: float
    rebalance: Trigger


class Account:
    """Holdings, pending orders and ledger entries of one strategy."""

    def __init__(self, strategy: Strategy, assets: Any, rules: Rules) -> None:
        self.strategy = copy.deepcopy(strategy)
        self.rules = rules
        self.assets = list(assets)
        self.positions = label_index([CASH, *assets])
        self.holdings: Floats = np.zeros(len(self.positions))
        self.holdings[0] = rules.initial_wealth
        self.orders: dict[int, Floats] = {}
        self.entries: list[Entry] = []
        self.decisions: list[Decision] = []
        self.today: pd.Timestamp = rules.dates[0]

    @property
    def row(self) -> int:
        """Number of rows processed."""
        return len(self.entries)

    def earn(self, view: View) -> Floats:
        """Start a row: apply its returns to the holdings of the row before."""
        self.today = view.date
        earned: Floats = np.zeros_like(self.holdings)
        if self.entries:
            rates = np.append(view.cash_rate.iloc[-1], view.returns.iloc[-1])
            # An asset not yet quoted has no return, and is not held.
            earned = self.holdings * np.nan_to_num(rates)
            self.holdings = self.holdings + earned
        if isinstance(self.strategy, Observing):
            self.strategy.observe(view, float(self.holdings.sum()), self.rules.lag)
        return earned

    def decide(self, row: int, view: View) -> None:
        """Ask the strategy if a decision is due and can be executed before the last row."""
        execution_row = row + self.rules.lag
        if execution_row >= len(self.rules.dates) - 1:
            return
        held = pd.Series(self._with_orders(), index=self.positions)
        if not self._due(view, held):
            return
        answer = self.strategy.decide(view, held)
        weights = None
        if answer is not None:
            self.orders[execution_row] = target_weights(answer, self.assets)
            weights = pd.Series(self.orders[execution_row], index=self.positions)
        self.decisions.append(Decision(view.date, weights))

    def _with_orders(self) -> Floats:
        """Holdings as if pending orders (of a lag above 1) were executed today.

        Who did not see them would order the same again, or undo it. Whether an asset will have a
        quote when its order is due is not known: they are shown as if all had.
        """
        held, quoted = self.holdings.copy(), np.ones(len(self.assets), dtype=bool)
        for row in sorted(self.orders):
            requested = requested_trades(held, self.orders[row], self.rules.costs)
            _, _, held = execute(held, requested, self.rules.costs, quoted)
        return held

    def _due(self, view: View, held: pd.Series[float]) -> bool:
        return not self.decisions or self.rules.rebalance.due(view, held, self.decisions[-1])

    def trade(self, row: int, quoted: NDArray[np.bool_], earned: Floats) -> None:
        """Execute the order of this row, if there is one, and write the row's entry."""
        before, costs = self.holdings, self.rules.costs
        order = self.orders.pop(row, None)
        requested = (
            np.zeros(len(before) - 1) if order is None else requested_trades(before, order, costs)
        )
        executed, charged, after = execute(before, requested, costs, quoted)
        self.holdings = after
        self.entries.append(Entry(earned, before, requested, executed, charged, after))

    def ledger(self) -> Ledger:
        """Ledger of all entries."""
        return Ledger.of(self.entries, self.decisions, self.rules.dates, label_index(self.assets))

    @property
    def decision_log(self) -> list[dict[str, Any]]:
        """Decision log of the strategy; empty if it keeps none."""
        found: list[dict[str, Any]] = getattr(self.strategy, "decision_log", [])
        return found

    def checkpoint(self) -> dict[str, Any] | None:
        """Checkpoint of the strategy if it has just decided and is resumable, else None."""
        decided = self.decisions and self.decisions[-1].date == self.today
        if not (decided and isinstance(self.strategy, Resumable)):
            return None
        return self.strategy.checkpoint()

    def final_state(self) -> dict[str, Any] | None:
        """State that the strategy stores at the end of its run."""
        kept: Callable[[], dict[str, Any] | None] | None
        kept = getattr(self.strategy, "final_state", None)
        return None if kept is None else kept()

    def part(self, start: int, state: Mapping[str, Any] | None) -> Record:
        """Record of the rows from `start` to now, from which a run can resume."""
        dates = self.rules.dates
        decisions = [d for d in self.decisions if d.date >= dates[start]]
        entries = self.entries[start:]
        arrays = {
            name: np.array([getattr(entry, name) for entry in entries]) for name in Entry._fields
        }
        facts = {
            "start": start,
            "stop": self.row,
            "decided": [_row_of(decision.date, dates) for decision in decisions],
            "weights": [None if d.weights is None else d.weights.tolist() for d in decisions],
            "orders": [[row, weights.tolist()] for row, weights in self.orders.items()],
            "decision_log": [
                _plain(note, dates) for note in self.decision_log if note["date"] >= dates[start]
            ],
            "strategy": None if state is None else dict(state),
        }
        return Record(arrays, facts)

    def restore(self, parts: Sequence[Record]) -> None:
        """Restore entries, decisions and orders from the parts of an earlier run."""
        dates = self.rules.dates
        for arrays, facts in parts:
            columns = [arrays[name] for name in Entry._fields]
            self.entries += [Entry(*values) for values in zip(*columns, strict=True)]
            for row, weights in zip(facts["decided"], facts["weights"], strict=True):
                held = None if weights is None else pd.Series(weights, index=self.positions)
                self.decisions.append(Decision(dates[row], held))
            self.decision_log.extend(_noted(note, dates) for note in facts["decision_log"])
            self.orders = {row: np.array(weights) for row, weights in facts["orders"]}
        if self.entries:
            self.holdings = self.entries[-1].after

    def resume(self, parts: Sequence[Record], view: View) -> None:
        """Resume where the parts of an earlier run end; `view` is that of their last date."""
        self.restore(parts)
        if isinstance(self.strategy, Resumable):
            self.strategy.resume(parts[-1].facts["strategy"], view)


def _row_of(date: pd.Timestamp, dates: pd.DatetimeIndex) -> int:
    return int(dates.searchsorted(date))


def _plain(note: Mapping[str, Any], dates: pd.DatetimeIndex) -> dict[str, Any]:
    """JSON form of a decision-log entry, its date as a row of the run."""
    return dict(note) | {"date": _row_of(note["date"], dates)}


def _noted(note: Mapping[str, Any], dates: pd.DatetimeIndex) -> dict[str, Any]:
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in note.items()}
    return values | {"date": dates[note["date"]]}
