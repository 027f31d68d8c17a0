"""`Run`: a backtest of one strategy, row by row, and what has been recorded of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sddp.backtest.ledger import Entry, Ledger
from sddp.backtest.strategies import Strategy
from sddp.backtest.trading.account import Account, Resumable, Rules
from sddp.backtest.trading.decisions import Decision
from sddp.backtest.trading.events import Event
from sddp.backtest.trading.messages import Envelope
from sddp.backtest.trading.step import EventSink, step
from sddp.cache.store import Record
from sddp.labels import label_index
from sddp.market.market import Market, View


class Run:
    """A backtest of one strategy: its account, the rows, and the record of what happened.

    Parameters
    ----------
    strategy : Strategy
        Copied.
    assets : sequence of labels
    rules : Rules
    dates : DatetimeIndex
        Rows of the run.
    messages : sequence of (date, Envelope)
        Received before the first row at or after their date.
    events : EventSink, optional
        Where events are appended.

    Attributes
    ----------
    account : Account
    entries : list of Entry
        One for each row.
    decisions : list of Decision
    """

    def __init__(
        self,
        strategy: Strategy,
        assets: Iterable[Any],
        rules: Rules,
        dates: pd.DatetimeIndex,
        *,
        messages: Sequence[tuple[pd.Timestamp, Envelope]] = (),
        events: EventSink | None = None,
    ) -> None:
        self.account = Account(strategy, assets, rules)
        self.dates = dates
        self.entries: list[Entry] = []
        self.decisions: list[Decision] = []
        self._messages = sorted(messages, key=lambda told: told[0])
        self._events = events

    @property
    def row(self) -> int:
        """Number of rows processed."""
        return len(self.entries)

    @property
    def today(self) -> pd.Timestamp:
        """Date of the last row processed; the first one before that."""
        return self.dates[0] if self.account.today is None else self.account.today

    def advance(self, market: Market) -> list[Event]:
        """Process the next row.

        Nothing is decided that could not be executed before the last row, which earns nothing.
        """
        row, account = self.row, self.account
        date = self.dates[row]
        while self._messages and self._messages[0][0] <= date:
            account.receive(self._messages.pop(0)[1])
        decide = row + account.rules.lag < len(self.dates) - 1
        events = step(account, market.at(date, account.lookback), decide=decide)
        assert account.entry is not None
        self.entries.append(account.entry)
        if account.decision is not None and account.decision.row == row:
            self.decisions.append(account.decision)
        if self._events is not None:
            for event in events:
                self._events.append(event)
        return events

    def ledger(self) -> Ledger:
        """Ledger of all rows."""
        assets = label_index(self.account.assets)
        return Ledger.of(self.entries, self.decisions, self.dates, assets)

    @property
    def decision_log(self) -> list[dict[str, Any]]:
        """Decision log of the strategy; empty if it keeps none."""
        found: list[dict[str, Any]] = getattr(self.account.strategy, "decision_log", [])
        return found

    def checkpoint(self) -> dict[str, Any] | None:
        """Checkpoint of the strategy if it has just decided and is resumable, else None."""
        strategy = self.account.strategy
        decided = self.decisions and self.decisions[-1].date == self.today
        if not (decided and isinstance(strategy, Resumable)):
            return None
        return strategy.checkpoint()

    def final_state(self) -> dict[str, Any] | None:
        """State that the strategy stores at the end of its run."""
        kept: Callable[[], dict[str, Any] | None] | None
        kept = getattr(self.account.strategy, "final_state", None)
        return None if kept is None else kept()

    def part(self, start: int, state: Mapping[str, Any] | None) -> Record:
        """Record of the rows from `start` to now, from which a run can resume."""
        dates = self.dates
        decisions = [d for d in self.decisions if d.date >= dates[start]]
        entries = self.entries[start:]
        arrays = {
            name: np.array([getattr(entry, name) for entry in entries]) for name in Entry._fields
        }
        facts = {
            "start": start,
            "stop": self.row,
            "decided": [decision.row for decision in decisions],
            "weights": [None if d.weights is None else d.weights.tolist() for d in decisions],
            "account": self.account.own_state(),
            "decision_log": [
                _plain(note, dates) for note in self.decision_log if note["date"] >= dates[start]
            ],
            "strategy": None if state is None else dict(state),
        }
        return Record(arrays, facts)

    def restore(self, parts: Sequence[Record]) -> None:
        """Restore entries, decisions and the account from the parts of an earlier run."""
        dates = self.dates
        for arrays, facts in parts:
            columns = [arrays[name] for name in Entry._fields]
            self.entries += [Entry(*values) for values in zip(*columns, strict=True)]
            for row, weights in zip(facts["decided"], facts["weights"], strict=True):
                held = None
                if weights is not None:
                    held = pd.Series(weights, index=self.account.positions)
                self.decisions.append(Decision(dates[row], held, row=row))
            self.decision_log.extend(_noted(note, dates) for note in facts["decision_log"])
            if "account" in facts:  # finished runs of an earlier version have none
                self.account.restore_own(facts["account"])

    def resume(self, parts: Sequence[Record], view: View) -> None:
        """Resume where the parts of an earlier run end; `view` is that of their last date."""
        self.restore(parts)
        if isinstance(self.account.strategy, Resumable):
            self.account.strategy.resume(parts[-1].facts["strategy"], view)


def simulate(run: Run, market: Market, *, after_row: Callable[[Run], object]) -> None:
    """Process the rows of a run from its present one to the last.

    Parameters
    ----------
    run : Run
        Written to.
    market : Market
    after_row : callable
        Called with the run after each row, to tell of it or to keep it.
    """
    while run.row < len(run.dates):
        run.advance(market)
        after_row(run)


def _plain(note: Mapping[str, Any], dates: pd.DatetimeIndex) -> dict[str, Any]:
    """JSON form of a decision-log entry, its date as a row of the run."""
    return dict(note) | {"date": int(dates.searchsorted(note["date"]))}


def _noted(note: Mapping[str, Any], dates: pd.DatetimeIndex) -> dict[str, Any]:
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in note.items()}
    return values | {"date": dates[note["date"]]}
