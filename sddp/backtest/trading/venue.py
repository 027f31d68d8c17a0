"""Instructions to trade, and the venues that execute them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sddp.arrays import Floats
from sddp.backtest.trading.execution import TransactionCosts, execute, requested_trades
from sddp.errors import ModelError
from sddp.labels import CASH


@dataclass(frozen=True)
class RebalanceInstruction:
    """What a venue is asked to do.

    Attributes
    ----------
    identifier : str
        Time and number of the instruction: the same in every run of one history.
    time : Timestamp
        Of the decision.
    weights : mapping of text to float
        Target weights by position, cash among them, of the wealth after costs.
    legs : mapping of text to float
        Trades in money at the quotes of the decision, positive buys; those of 0 left out.
    held_fixed : tuple of str
        Assets that may not be traded.
    optimizer : str
    constraint_set : str or None
        Version of the constraint set.
    reason : str
    """

    identifier: str
    time: pd.Timestamp
    weights: Mapping[str, float]
    legs: Mapping[str, float]
    held_fixed: tuple[str, ...]
    optimizer: str
    constraint_set: str | None
    reason: str

    def plain(self) -> dict[str, Any]:
        """Fields as JSON holds them."""
        return vars(self) | {
            "time": self.time.isoformat(),
            "weights": dict(self.weights),
            "legs": dict(self.legs),
            "held_fixed": list(self.held_fixed),
        }

    @classmethod
    def from_plain(cls, document: Mapping[str, Any]) -> RebalanceInstruction:
        """The instruction whose `plain` is the document."""
        held = dict(document)
        held |= {"time": pd.Timestamp(held["time"]), "held_fixed": tuple(held["held_fixed"])}
        return cls(**held)


class Fill(NamedTuple):
    """What was executed of an instruction on a row, in money; arrays over the assets.

    `complete` says that nothing more will come of it.
    """

    identifier: str
    requested: Floats
    executed: Floats
    costs: Floats
    complete: bool = True


class Quotes(NamedTuple):
    """What a simulated venue needs of a row.

    Attributes
    ----------
    row : int
        Rows of the run before this one.
    holdings : array, shape (1 + n_assets,)
        Money, cash first.
    quoted : array of bool, shape (n_assets,)
    costs : TransactionCosts
        Charged on the row.
    volumes : array, shape (n_assets,), or None
        Money traded in the market since the row before.
    """

    row: int
    holdings: Floats
    quoted: NDArray[np.bool_]
    costs: TransactionCosts
    volumes: Floats | None = None


class Venue(Protocol):
    """Where instructions are executed: at once, later, in part, or never.

    Holdings change when fills come, not when an instruction is submitted. A venue outside of the
    process is told of an instruction after the row that issued it is kept, and once more after a
    restart: it executes an identifier once (`sddp.backtest.trading.external_venue`).

    Attributes
    ----------
    simulated : bool
        Whether its answers follow from the rows alone, so that nothing leaves the process.
    """

    @property
    def simulated(self) -> bool:
        """Whether its answers follow from the rows alone."""
        ...

    @property
    def most_open(self) -> int:
        """Instructions that may be open at a time; while they are, no trigger is asked."""
        ...

    def submit(self, instruction: RebalanceInstruction) -> None:
        """Take an instruction."""
        ...

    def poll(self, quotes: Quotes) -> Sequence[Fill]:
        """Fills since the last call, in their order. A real venue does not read `quotes`."""
        ...

    def cancel(self, identifier: str) -> None:
        """Ask that nothing more be executed of an instruction."""
        ...

    def state(self) -> dict[str, Any]:
        """Open instructions, as JSON."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        ...


class PaperVenue:
    """Simulated venue: an instruction is executed at the quotes of a later row.

    The trades are those that reach the target weights at these quotes. Assets are sold first, then
    all purchases are scaled by one factor so that cash does not go below 0.

    Parameters
    ----------
    assets : sequence of labels
    lag : int
        Rows between an instruction and its execution.
    participation : float, optional
        Largest share of a row's volume of an asset that is traded; what is left of an instruction
        is tried again on the next row. Without it all is traded.

    Raises
    ------
    ModelError
        `participation` is not positive, or the market has no volumes.
    """

    simulated = True

    def __init__(
        self, assets: Sequence[Hashable], lag: int, participation: float | None = None
    ) -> None:
        if participation is not None and not participation > 0.0:
            raise ModelError(f"participation={participation}: must be positive; 0.1 is 10 %")
        self._names = [str(name) for name in assets]
        self._lag, self._participation = lag, participation
        self._row = -1
        self._open: list[tuple[int, RebalanceInstruction]] = []

    @property
    def most_open(self) -> int:
        """As many as there are rows of lag: each is executed before the next one is due."""
        return max(self._lag, 1)

    def submit(self, instruction: RebalanceInstruction) -> None:
        """Take an instruction, due `lag` rows later."""
        self._open.append((self._row + self._lag, instruction))

    def poll(self, quotes: Quotes) -> list[Fill]:
        """Execute what is due on the row."""
        self._row = quotes.row
        due = [told for told in self._open if told[0] <= quotes.row]
        fills = []
        for told in due:
            fill = self._execute(told[1], quotes)
            quotes = quotes._replace(holdings=holdings_after(quotes.holdings, fill))
            fills.append(fill)
            if fill.complete:
                self._open.remove(told)
        return fills

    def _execute(self, instruction: RebalanceInstruction, quotes: Quotes) -> Fill:
        weights = np.array([instruction.weights[name] for name in (CASH, *self._names)])
        still = set(instruction.held_fixed)
        fixed = np.array([name in still for name in self._names]) if still else None
        requested = requested_trades(quotes.holdings, weights, quotes.costs, fixed)
        wanted, complete = requested, True
        if self._participation is not None:
            if quotes.volumes is None:
                raise ModelError(
                    f"participation={self._participation}: needs volumes; give Market(volumes=...)"
                )
            most = self._participation * np.nan_to_num(quotes.volumes)
            wanted = np.clip(requested, -most, most)
            complete = bool((wanted == requested).all())
        executed, charged, _ = execute(quotes.holdings, wanted, quotes.costs, quotes.quoted)
        return Fill(instruction.identifier, requested, executed, charged, complete)

    def cancel(self, identifier: str) -> None:
        """Forget an instruction."""
        self._open = [told for told in self._open if told[1].identifier != identifier]

    def state(self) -> dict[str, Any]:
        """Open instructions with the rows on which they are due."""
        return {"row": self._row, "open": [[row, order.plain()] for row, order in self._open]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self._row = state["row"]
        self._open = [(row, RebalanceInstruction.from_plain(told)) for row, told in state["open"]]


def holdings_after(holdings: Floats, fill: Fill) -> Floats:
    """Holdings after a fill, in money, cash first."""
    # Purchases are scaled so that cash ends at 0 up to rounding, which may fall on the wrong side.
    spent = holdings[0] - fill.executed.sum() - fill.costs.sum()
    after: Floats = np.concatenate([[max(spent, 0.0)], holdings[1:] + fill.executed])
    return after
