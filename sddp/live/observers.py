"""What looks at the rows that a live portfolio has processed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd

from sddp.arrays import Floats
from sddp.backtest.trading.events import Event
from sddp.market.market import View


class Held(Protocol):
    """What observers read of an account."""

    assets: list[Any]
    holdings: Floats
    decision: Any


@dataclass(frozen=True, eq=False)
class ProcessedRow:
    """A row after its step.

    Attributes
    ----------
    account : Account
        Holdings after the row's trades; to be read only.
    view : View
        What is known on the row.
    events : list of Event
        Of the row, in order.
    seconds : float
        Measured, from the row's arrival to its events.
    """

    account: Held
    view: View
    events: Sequence[Event]
    seconds: float

    @property
    def time(self) -> pd.Timestamp:
        """Of the row."""
        return self.view.date


class Observer(Protocol):
    """Looks at each processed row inside its transaction; trades nothing."""

    def observe(self, done: ProcessedRow) -> Sequence[Event]:
        """Events to be logged and published with the row."""
        ...

    def state(self) -> Mapping[str, Any]:
        """What the next answers depend on, as JSON."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        ...
